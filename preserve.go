// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/slipway-net/slipway/launcher"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// Variables by which a service manager tells a program of sockets that it has opened for
// it (sd_listen_fds(3)).
const (
	listenFDs   = "LISTEN_FDS"
	listenPID   = "LISTEN_PID"
	listenNames = "LISTEN_FDNAMES"
)

// firstPreserved is the first descriptor besides the standard streams.
const firstPreserved = 3

// preserveFlags are the flags about descriptors that a command is given.
type preserveFlags struct{ count int }

func (f *preserveFlags) add(fs *pflag.FlagSet) {
	fs.IntVar(&f.count, "preserve-fds", 0, "give the command `N` descriptors that slipway was started with, from 3 on")
}

// files are the descriptors that the flag means, of those that this process was started
// with, which begin with first.
func (f *preserveFlags) files(first int) ([]int, error) {
	if f.count < 0 || f.count > launcher.MaxFiles {
		return nil, fmt.Errorf("%w: --preserve-fds %d: want 0 to %d", errUsage, f.count, launcher.MaxFiles)
	}
	fds, err := inherited(first, f.count)
	if err != nil {
		return nil, fmt.Errorf("%w: --preserve-fds %d: %w", errUsage, f.count, err)
	}
	return fds, nil
}

// inherited are count descriptors from first on. Each must be one that this process was
// started with: what it has opened itself is closed by execve(2).
func inherited(first, count int) ([]int, error) {
	var fds []int
	for fd := first; fd < first+count; fd++ {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return nil, fmt.Errorf("slipway was started without descriptor %d", firstPreserved+fd-first)
		}
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}

// listened are the sockets that a service manager has opened for this process, if there
// are any.
func listened(getenv func(string) string) ([]int, error) {
	if getenv(listenPID) != strconv.Itoa(os.Getpid()) {
		return nil, nil // none, or another's
	}
	n, err := strconv.Atoi(getenv(listenFDs))
	if err != nil || n < 0 || n > launcher.MaxFiles {
		return nil, fmt.Errorf("take over the service manager's sockets: %s is %q: want a number up to %d", listenFDs, getenv(listenFDs), launcher.MaxFiles)
	}
	fds, err := inherited(firstPreserved, n)
	if err != nil {
		return nil, fmt.Errorf("take over the service manager's sockets: %s is %d, and %w", listenFDs, n, err)
	}
	return fds, nil
}

// passed are the descriptors that a container's command is to have: those of
// --preserve-fds, or else what a service manager has given us.
func (r *runner) passed() ([]int, error) {
	if r.fs.Changed("preserve-fds") {
		return r.preserve.files(firstPreserved)
	}
	return listened(os.Getenv)
}

// give gives the command the descriptors that passed has returned. If they are a service
// manager's the command is told as we were, and is pid 1, whose number is known.
func (r *runner) give(fds []int) error {
	r.cfg.Files = fds
	if len(fds) == 0 || r.fs.Changed("preserve-fds") {
		return nil
	}
	no := false
	switch {
	case r.cfg.Init == nil:
		r.cfg.Init = &no
	case *r.cfg.Init:
		return fmt.Errorf("%w: --init, and sockets of a service manager: they are for the process whose number %s says, which has to be known before it starts: leave --init out", errUsage, listenPID)
	}
	r.cfg.Env = append(r.cfg.Env, listenPID+"=1", listenFDs+"="+strconv.Itoa(len(fds)))
	if names := os.Getenv(listenNames); names != "" {
		r.cfg.Env = append(r.cfg.Env, listenNames+"="+names)
	}
	return nil
}

// errNoFiles is the error of a container that had descriptors and is started again.
var errNoFiles = errors.New("it was given descriptors by --preserve-fds, and slipway start has none: run it anew")

// giveDetached is give in the supervisor of a detached container, for what its caller has
// passed on.
func (r *runner) giveDetached(fds []int) error {
	if r.preserve.count != len(fds) && r.fs.Changed("preserve-fds") {
		return errNoFiles
	}
	return r.give(fds)
}
