// SPDX-License-Identifier: Apache-2.0

package spawn_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/spawn"
)

// namespaces are those that a container's init stage has.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// childWord, as argv[0], makes this test's binary what Start starts.
const childWord = "spawned"

func TestMain(m *testing.M) {
	if os.Args[0] == childWord {
		tell()
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// tell writes what the program finds to descriptor 3.
func tell() {
	f := os.NewFile(3, "told")
	dir, err := os.Getwd()
	sid, serr := unix.Getsid(0)
	var hdr = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	cerr := unix.Capget(&hdr, &caps[0])
	uids, _ := os.ReadFile("/proc/self/uid_map")
	admin := caps[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
	fmt.Fprintf(f, "pid %d sid %d dir %s admin %t env %v args %v uids %q err %v\n", os.Getpid(), sid, dir, admin, os.Environ(), os.Args[1:],
		strings.Fields(string(uids)), errors.Join(err, serr, cerr))
}

// start starts this binary as that program, and returns what it has told and its end.
func start(t *testing.T, c spawn.Config) (string, unix.WaitStatus) {
	t.Helper()
	exe, err := os.Open("/proc/self/exe")
	must(t, err)
	defer exe.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	must(t, err)
	defer null.Close()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	fd := int(null.Fd())
	c.New, c.Exe, c.Args, c.Files = namespaces, int(exe.Fd()), []string{childWord, "word"}, []int{fd, fd, fd, int(w.Fd())}
	c.Env = []string{"A=b"}
	pid, pidfd, err := spawn.Start(c)
	w.Close()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("no user namespaces here: %v", err)
	}
	must(t, err)
	defer unix.Close(pidfd)
	b, err := io.ReadAll(r)
	must(t, err)
	var ws unix.WaitStatus
	got, err := unix.Wait4(pid, &ws, 0, nil)
	must(t, err)
	if got != pid {
		t.Errorf("waited for %d, want %d", got, pid)
	}
	return strings.TrimSpace(string(b)), ws
}

// TestStart has the program tell what it is.
func TestStart(t *testing.T) {
	for _, tt := range []struct {
		name, uids string
		cfg        spawn.Config
	}{
		{"own ids", fmt.Sprintf(`["0" "%d" "1"]`, os.Geteuid()), spawn.Config{Own: true}},
		{"no ids yet", "[]", spawn.Config{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told, ws := start(t, tt.cfg)
			want := fmt.Sprintf("pid 1 sid 1 dir / admin true env [A=b] args [word] uids %s err <nil>", tt.uids)
			if told != want {
				t.Errorf("it told\n%s\nwant\n%s", told, want)
			}
			if ws.ExitStatus() != 7 {
				t.Errorf("it ended with %#x, want exit status 7", ws)
			}
		})
	}
}

// TestStartFails leaves neither a process nor a descriptor.
func TestStartFails(t *testing.T) {
	null, err := os.Open(os.DevNull)
	must(t, err)
	defer null.Close()
	before := descriptors(t)
	fd := int(null.Fd())
	for _, tt := range []struct {
		name string
		cfg  spawn.Config
		want error
	}{
		{"no program", spawn.Config{New: namespaces, Exe: fd, Args: []string{"x"}, Files: []int{fd}}, unix.EACCES},
		{"no such file", spawn.Config{New: namespaces, Exe: fd, Args: []string{"x"}, Files: []int{1 << 20}}, unix.EBADF},
		{"no such namespace", spawn.Config{New: unix.CLONE_NEWUSER | unix.CLONE_FS, Exe: fd, Args: []string{"x"}, Files: []int{fd}}, unix.EINVAL},
	} {
		_, _, err := spawn.Start(tt.cfg)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			t.Skipf("no user namespaces here: %v", err)
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
			t.Errorf("%s: a child is left: %d, %v", tt.name, pid, err)
		}
	}
	if now := descriptors(t); now != before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(all)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
