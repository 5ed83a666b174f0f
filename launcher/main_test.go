// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
)

// patience bounds a test that would otherwise hang; nothing is timed by it.
const patience = 60 * time.Second

// Roles that the test binary has when it is started as a tool, inside or outside
// of a container.
const (
	roleSupervise = "launcher-test-supervise"  // run the words that follow
	roleConnect   = "launcher-test-connect"    // connect to a Unix socket
	roleWriteSelf = "launcher-test-write-self" // tell whether the own binary can be written
	roleExec      = "launcher-test-exec"       // run a container, and the words that follow in it
	roleSyscall   = "launcher-test-syscall"    // make one system call and tell its error
	roleTrace     = "launcher-test-trace"      // trace whatever comes into the container
)

func TestMain(m *testing.M) {
	if launcher.IsInit(os.Args) {
		os.Exit(launcher.Init(os.Args))
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case roleSupervise:
			os.Exit(supervise(os.Args[2:]))
		case roleConnect:
			c, err := net.Dial("unix", os.Args[2])
			report(err)
			c.Close()
			os.Exit(0)
		case roleWriteSelf:
			report(writeSelf())
			os.Exit(0)
		case roleExec:
			os.Exit(superviseExec(os.Args[2:]))
		case roleSyscall:
			syscallMain(os.Args[2])
			os.Exit(0)
		case roleTrace:
			traceMain()
		}
	}
	os.Exit(m.Run())
}

// report prints an error as a number, and ends the process if there is one.
func report(err error) {
	var errno unix.Errno
	if errors.As(err, &errno) {
		fmt.Println(unix.ErrnoName(errno))
		os.Exit(1)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// syscallMain makes one system call and prints its error, or ok.
func syscallMain(call string) {
	const newer = 900 // than any table
	var errno unix.Errno
	switch call {
	case "status":
		b, err := os.ReadFile("/proc/self/status")
		report(err)
		_, after, _ := strings.Cut(string(b), "Seccomp:")
		mode, _, _ := strings.Cut(after, "\n")
		fmt.Println(strings.TrimSpace(mode))
		return
	case "keyctl":
		_, _, errno = unix.RawSyscall(unix.SYS_KEYCTL, 9999, 0, 0)
	case "unshare":
		_, _, errno = unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUTS, 0, 0)
	case "unknown":
		_, _, errno = unix.RawSyscall(newer, 0, 0, 0)
	case "clone3":
		_, _, errno = unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	}
	if errno != 0 {
		fmt.Println(unix.ErrnoName(errno))
		return
	}
	fmt.Println("ok")
}

// supervise runs a container without a network around this process's streams.
func supervise(args []string) int {
	c, err := launcher.New(launcher.Config{Args: args, Net: launcher.NetNone, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	code, err := c.Run(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

// superviseExec runs a container, and in it one more command, whose exit code it returns.
func superviseExec(args []string) int {
	ctx, end := context.WithCancel(context.Background())
	started := make(chan int, 1)
	c, err := launcher.New(launcher.Config{Args: []string{"sleep", "1000"}, Net: launcher.NetNone, Started: func(pid int) { started <- pid }})
	report(err)
	var work sync.WaitGroup
	work.Go(func() {
		_, err := c.Run(ctx)
		report(err)
	})
	pid := <-started
	pidfd, err := unix.PidfdOpen(pid, 0)
	report(err)
	code, err := launcher.Exec{Order: c.Order(), PID: pid, Pidfd: pidfd, Args: args, Stdout: os.Stdout, Stderr: os.Stderr}.Run(ctx)
	report(err)
	report(c.Kill())
	work.Wait()
	end()
	return code
}

// writeSelf makes the own binary writable, and looks whether it is. EPERM is that of a
// file in memory which is sealed: that it is executed keeps others from opening it.
func writeSelf() error {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer f.Close()
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err == nil && seals&(unix.F_SEAL_WRITE|unix.F_SEAL_SEAL) == unix.F_SEAL_WRITE|unix.F_SEAL_SEAL {
		return unix.EPERM
	}
	if err := unix.Chmod("/proc/self/exe", 0o777); err != nil {
		return err
	}
	return unix.Access("/proc/self/exe", unix.W_OK)
}

// outcome is how a container ended.
type outcome struct {
	code           int
	stdout, stderr string
	err            error
}

// run runs a container to its end. Without streams in c its output is collected.
func run(t *testing.T, c launcher.Config) outcome {
	t.Helper()
	return runWith(t, c, launcher.New)
}

func runWith(t *testing.T, c launcher.Config, make func(launcher.Config) (*launcher.Container, error)) outcome {
	t.Helper()
	needNamespaces(t)
	if c.Net == "" {
		c.Net = launcher.NetNone
	}
	var o outcome
	var done []func()
	for _, s := range []struct {
		f   **os.File
		out *string
	}{{&c.Stdout, &o.stdout}, {&c.Stderr, &o.stderr}} {
		if *s.f == nil {
			done = append(done, collect(t, s.f, s.out))
		}
	}
	ct, err := make(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o.code, o.err = ct.Run(ctx)
	if ctx.Err() != nil {
		t.Errorf("the container had to be ended: %v", ctx.Err())
	}
	for _, f := range done {
		f()
	}
	return o
}

// collect makes *f the writing end of a pipe. The function it returns closes that
// and puts what was written in *out.
func collect(t *testing.T, f **os.File, out *string) func() {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	*f = w
	var b bytes.Buffer
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = b.ReadFrom(r)
		r.Close()
	}()
	return func() {
		w.Close()
		<-end
		*out = b.String()
	}
}

// sh is the configuration of a shell script.
func sh(script string) launcher.Config {
	return launcher.Config{Args: []string{"/bin/sh", "-c", script}}
}

// must fails the test unless the container ended with code 0, and returns what it
// printed, without the last newline.
func (o outcome) must(t *testing.T) string {
	t.Helper()
	if o.err != nil || o.code != 0 {
		t.Fatalf("code %d, error %v, stderr %q, stdout %q", o.code, o.err, o.stderr, o.stdout)
	}
	return strings.TrimSuffix(o.stdout, "\n")
}

// needNamespaces skips a test where the machine has no unprivileged user
// namespaces, as nothing of a container can be tested there.
func needNamespaces(t *testing.T) {
	t.Helper()
	for _, c := range launcher.Checks(t.Context())[:1] {
		if c.OK {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s: %s: %s", c.Name, c.Detail, c.Fix)
		}
		t.Skipf("%s: %s: %s", c.Name, c.Detail, c.Fix)
	}
}
