// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
)

// A box is a container that runs, in which commands are run.
type box struct {
	order      []byte
	pid, pidfd int
	end        func() outcome // kills it
}

// newBox starts a container. The caller calls end before the end of the test.
func newBox(t *testing.T, c launcher.Config) *box {
	t.Helper()
	b := &box{}
	started := make(chan int, 1)
	c.Started = func(pid int) { started <- pid }
	var ct *launcher.Container
	ended := make(chan outcome, 1)
	made := make(chan struct{})
	go func() {
		ended <- runWith(t, c, func(c launcher.Config) (_ *launcher.Container, err error) {
			ct, err = launcher.New(c)
			close(made)
			return ct, err
		})
	}()
	<-made
	select {
	case b.pid = <-started:
	case o := <-ended:
		t.Fatalf("the container ended: %+v", o)
	}
	var err error
	if b.pidfd, err = unix.PidfdOpen(b.pid, 0); err != nil {
		t.Fatal(err)
	}
	b.order = ct.Order()
	b.end = func() outcome {
		_ = ct.Kill() // it may have ended
		unix.Close(b.pidfd)
		return <-ended
	}
	return b
}

// exec runs a command in it, and returns what that prints.
func (b *box) exec(t *testing.T, args ...string) string {
	t.Helper()
	var o outcome
	e := launcher.Exec{Order: b.order, PID: b.pid, Pidfd: b.pidfd, Args: args}
	done := []func(){collect(t, &e.Stdout, &o.stdout), collect(t, &e.Stderr, &o.stderr)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o.code, o.err = e.Run(ctx)
	for _, f := range done {
		f()
	}
	return o.must(t)
}

// TestExecIsAlone runs commands one after the other. Each has the process id that is next
// in the container: nothing of ours was there, nor a thread of it.
func TestExecIsAlone(t *testing.T) {
	no := false
	b := newBox(t, launcher.Config{Args: []string{"sleep", "1000"}, Init: &no})
	defer b.end()
	var last int
	for i := range 4 {
		pid, err := strconv.Atoi(b.exec(t, "/bin/sh", "-c", "echo $$"))
		if err != nil || i > 0 && pid != last+1 {
			t.Errorf("process id %d, %v, after %d", pid, err, last)
		}
		last = pid
	}
}

// TestExecIsTraced has a container with CAP_SYS_PTRACE trace whatever comes into it, from
// its first moment on: it finds no process with more rights than it has itself. What it
// takes of the socket by which the command's end is told does not hold that up.
func TestExecIsTraced(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	no := false
	for _, newPrivs := range []bool{false, true} {
		t.Run(fmt.Sprintf("new privileges %t", newPrivs), func(t *testing.T) {
			b := newBox(t, launcher.Config{Args: []string{self, roleTrace}, CapAdd: []string{"CAP_SYS_PTRACE"}, NewPrivs: newPrivs, Init: &no})
			for range 5 {
				b.exec(t, "true")
			}
			o := b.end()
			found := strings.Fields(o.stdout)
			if len(found) < 2 {
				t.Fatalf("it traced nobody: %+v", o)
			}
			slices.Sort(found)
			if found = slices.Compact(found); len(found) > 1 {
				t.Errorf("rights of what it traced, and its own: %q", found)
			}
		})
	}
}

// rights are a process's permitted capabilities and whether it has a filter.
var rights = regexp.MustCompile(`CapPrm:\t(\S+)|Seccomp:\t(\S+)`)

func rightsOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var s string
	for _, m := range rights.FindAllSubmatch(b, -1) {
		s += "/" + string(m[1]) + string(m[2])
	}
	return s
}

// takeControl takes the descriptor of another process at which a stage has its control,
// and keeps it.
func takeControl(pid int) {
	if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
		_, _ = unix.PidfdGetfd(pidfd, 3, 0) // it may have executed already
		unix.Close(pidfd)
	}
}

// TestExecLimits has limits hold the command, and not who starts it.
func TestExecLimits(t *testing.T) {
	tell := []string{"cat", "/proc/self/limits"}
	check := func(name, limits string) {
		t.Helper()
		for _, want := range []string{`Max processes +4 +4 `, `Max open files +9 +9 `, `Max pending signals +0 +0 `} {
			if !regexp.MustCompile(want).MatchString(limits) {
				t.Errorf("%s: want %q in limits:\n%s", name, want, limits)
			}
		}
	}
	c := launcher.Config{Args: []string{"sleep", "1000"}}
	c.Rlimits = []launcher.Rlimit{{Name: "nproc", Soft: 4, Hard: 4}, {Name: "nofile", Soft: 9, Hard: 9}, {Name: "sigpending", Soft: 0, Hard: 0}}
	for _, init := range []bool{false, true} {
		c.Init = &init
		b := newBox(t, c)
		check(fmt.Sprintf("init %t, joined", init), b.exec(t, tell...))
		b.end()
	}
	c.Args = tell
	check("under our pid 1", run(t, c).must(t))
	hard := sh("true")
	yes := true
	hard.Init, hard.Rlimits = &yes, []launcher.Rlimit{{Name: "nproc", Soft: 1, Hard: 1}, {Name: "nofile", Soft: 1 << 29, Hard: 1 << 29}}
	if o := run(t, hard); o.err == nil || !strings.Contains(o.err.Error(), "ulimit -H") {
		t.Errorf("a hard limit above the caller's: %+v", o)
	}
}

// traceMain traces each process that comes into the pid namespace, and prints the rights
// that it finds, its own first.
func traceMain() {
	runtime.LockOSThread()
	fmt.Println(rightsOf(os.Getpid()))
	const ahead = 16 // ids that are tried; our own threads have the first
	traced := map[int]bool{}
	for last := os.Getpid(); ; {
		for pid := last + 1; pid <= last+ahead; pid++ {
			if traced[pid] {
				continue
			}
			if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); errno == 0 {
				fmt.Println(rightsOf(pid))
				takeControl(pid)
				traced[pid], last = true, max(last, pid-ahead/2)
			}
		}
		// One that is traced is reaped by its parent only after that.
		_, _ = unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
	}
}
