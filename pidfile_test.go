// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// TestPidfile asks the kernel who holds the lock of a pidfile.
func TestPidfile(t *testing.T) {
	attachtest.Open(t)
	path := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(path, []byte("123456 stale\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := attachTo(t, attachtest.NewContainer(t), "--pidfile", path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	holder := func() int {
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
			t.Fatal(err)
		}
		if lock.Type == unix.F_UNLCK {
			return 0
		}
		return int(lock.Pid)
	}
	if got := holder(); got != h.cmd.Process.Pid {
		t.Errorf("process %d holds the lock, want %d", got, h.cmd.Process.Pid)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != fmt.Sprintln(h.cmd.Process.Pid) {
		t.Errorf("the pidfile has %q, %v, want %d", b, err, h.cmd.Process.Pid)
	}
	// A second one is told who has it, and leaves it alone.
	r := slipway(t, "attach", "--pidfile", path, fmt.Sprint(attachtest.NewContainer(t).PID()))
	if want := fmt.Sprintf("process %d, which runs, holds its lock", h.cmd.Process.Pid); r.code != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("a second one: code %d, %q, want %q", r.code, r.stderr, want)
	}
	// The lock goes however the process ends.
	h.signal(t, syscall.SIGKILL)
	<-h.ended
	if got := holder(); got != 0 {
		t.Errorf("process %d holds the lock after the end", got)
	}
	again := attachTo(t, attachtest.NewContainer(t), "--pidfile", path)
	again.signal(t, syscall.SIGTERM)
	again.exits(t, 0)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the pidfile is left: %v", err)
	}
}
