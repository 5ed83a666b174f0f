// SPDX-License-Identifier: Apache-2.0

package join_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/launcher/join"
	"golang.org/x/sys/unix"
)

// Roles of the test binary.
const (
	roleWait = "join-test-wait" // be in namespaces until the input ends
	roleTell = "join-test-tell" // tell about the own process
)

const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case roleWait:
		fmt.Println(tell())
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case roleTell:
		fmt.Println(tell())
		sid, _ := unix.Getsid(0)
		fmt.Printf("args %q env %q leader %v uid %d blocked %s\n", os.Args[1:], os.Environ(), sid == os.Getpid(), os.Getuid(), field("SigBlk"))
		fmt.Println(strings.Join(open(), " "))
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// tell lists the namespaces that this process is in.
func tell() string {
	var all []string
	for _, ns := range []string{"user", "mnt", "ipc", "uts", "net", "pid"} {
		l, _ := os.Readlink("/proc/thread-self/ns/" + ns)
		all = append(all, l)
	}
	return strings.Join(all, " ")
}

// field is one of /proc/self/status.
func field(name string) string {
	b, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

// open lists the files that this process inherited.
func open() []string {
	var names []string
	for fd := range 64 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			names = append(names, fmt.Sprint(fd))
		}
	}
	return names
}

// target starts a process in namespaces, and returns its pidfd and what it tells.
func target(t *testing.T) (pidfd int, told string, end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{roleWait}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  namespaces,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("make namespaces: %v", err)
		}
		t.Skipf("this machine has no unprivileged user namespaces: %v", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err = unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pidfd, strings.TrimSpace(line), func() {
		in.Close()
		_ = cmd.Wait()
	}
}

// start joins pidfd with a pipe for output, and returns what is written.
func start(t *testing.T, pidfd int, flags uintptr) (string, unix.WaitStatus, error) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	exe, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(exe)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pid, err := join.Start(join.Config{
		Join: []join.Namespaces{{FD: pidfd, Flags: flags}}, Exe: exe, Args: []string{roleTell, "a b", ""}, Env: []string{"K=V"},
		Files: []int{int(null.Fd()), int(w.Fd()), int(w.Fd())},
	})
	w.Close()
	if err != nil {
		return "", 0, err
	}
	out, rerr := io.ReadAll(r)
	ws, werr := join.Wait(pid)
	return string(out), ws, errors.Join(rerr, werr)
}

func files(t *testing.T) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return links
}

func TestStart(t *testing.T) {
	pidfd, told, end := target(t)
	defer unix.Close(pidfd)
	defer end()
	before := len(files(t))
	want := told + "\n" + `args ["a b" ""] env ["K=V"] leader true uid 0 blocked 0000000000000000` + "\n0 1 2\n"
	for range 3 {
		out, ws, err := start(t, pidfd, namespaces)
		if err != nil || !ws.Exited() || ws.ExitStatus() != 7 {
			t.Errorf("Start: status %#x, %v", ws, err)
		}
		if diff := cmp.Diff(want, out); diff != "" {
			t.Errorf("what it tells (-want +got):\n%s", diff)
		}
	}
	if after := len(files(t)); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestStartFails(t *testing.T) {
	pidfd, _, end := target(t)
	defer unix.Close(pidfd)
	before := len(files(t))
	if _, _, err := start(t, -1, namespaces); !errors.Is(err, unix.EBADF) {
		t.Errorf("no pidfd: %v", err)
	}
	if _, _, err := start(t, pidfd, 1<<40); err == nil || !strings.Contains(err.Error(), "5.8") {
		t.Errorf("no namespace: %v", err)
	}
	if _, err := join.Start(join.Config{Files: make([]int, 100)}); err == nil {
		t.Error("too many files were taken")
	}
	if _, err := join.Start(join.Config{Args: []string{"a\x00b"}}); err == nil {
		t.Error("an argument with a NUL byte was taken")
	}
	if after := len(files(t)); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	end()
	before = len(files(t))
	if _, _, err := start(t, pidfd, namespaces); !errors.Is(err, join.ErrGone) {
		t.Errorf("an ended process: %v, want %v", err, join.ErrGone)
	}
	if after := len(files(t)); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
