// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// A place is one operating system thread that never goes back to the Go
// scheduler, with its own network namespace and capabilities. Children started in
// a place inherit both. They carry PR_SET_PDEATHSIG, which fires when the thread
// (not the process) that made them ends (prctl(2)); that is why the thread is kept.
type place struct {
	work chan func()
	cpus *unix.CPUSet // to which children are tied; nil for those of the thread
}

// newPlace starts the thread. Close ends it, and with it all children that were
// started in it.
func newPlace() *place {
	p := &place{work: make(chan func())}
	go func() {
		// Never unlocked: the thread's namespace and credentials are changed, and
		// the runtime destroys a locked thread when its goroutine returns.
		runtime.LockOSThread()
		for f := range p.work {
			f()
		}
	}()
	return p
}

// do runs f on the place's thread and returns its error.
func (p *place) do(f func() error) error {
	done := make(chan error, 1)
	p.work <- func() { done <- f() }
	return <-done
}

// start starts the command as a child of the place's thread.
func (p *place) start(cmd *exec.Cmd) error {
	return p.do(func() error { return p.startTied(cmd.Start) })
}

// close ends the thread. The place must not be used afterwards.
func (p *place) close() { close(p.work) }

// dropCapabilities takes all capabilities from the calling thread, including
// those that an exec would pass on. The bounding set stays full, as it is for any
// user who logged in.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // version 3 has two 32-bit words per set
	if err := unix.Capset(&hdr, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
