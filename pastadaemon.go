// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/slipway-net/slipway/netstack/attach/pasta"
	"golang.org/x/sys/unix"
)

// pastaDaemonName is the argv[0] under which the program is pasta in the background.
const pastaDaemonName = "slipway-pasta"

// pastaReadyFD is the descriptor at which that finds the pipe to its caller.
const pastaReadyFD = firstInherited

// errNoDaemon is the error of a background process that ended without a word.
var errNoDaemon = errors.New("the process in the background ended before the network was up: was it killed?")

// pastaDetach starts the program in the background, in a session of its own, and returns
// when the network is up, or the exit code for why not. A process of several threads
// cannot fork: this one starts another one. That has our standard error until then.
func pastaDetach(args []string, stderr io.Writer) int {
	r, w, err := os.Pipe()
	if err != nil {
		return pastaError(stderr, fmt.Errorf("go to the background: %w", err))
	}
	defer r.Close()
	proc, err := os.StartProcess("/proc/self/exe", append([]string{pastaDaemonName}, args...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, w},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return pastaError(stderr, fmt.Errorf("go to the background: %w", err))
	}
	said, err := io.ReadAll(r)
	if err == nil && len(said) > 0 {
		_ = proc.Release()
		return exitOK
	}
	state, err := proc.Wait()
	if err != nil || !state.Exited() || state.Success() {
		return pastaError(stderr, errNoDaemon)
	}
	return state.ExitCode() // it has said why
}

// pastaDaemon is pasta in the background.
func pastaDaemon(args []string) int {
	report, err := hideStreams()
	if err != nil {
		return pastaError(os.Stderr, err)
	}
	// Who looks for pasta finds it, and not the name by which we were started.
	_ = os.WriteFile("/proc/self/comm", []byte(pastaName), 0)
	o, err := pasta.Parse(args)
	if err != nil {
		return pastaError(report, err)
	}
	if _, err := unix.FcntlInt(pastaReadyFD, unix.F_GETFD, 0); err != nil || o.Action != pasta.Attach {
		return pastaError(report, errors.New("only pasta itself starts this"))
	}
	h := pastaHelper{o: o, stderr: report, readyFD: pastaReadyFD, leave: func() { report.Close() }}
	return h.main()
}

// hideStreams puts /dev/null in the place of the standard streams, and returns a copy of
// standard error, whose reader waits for its end: closing it is the last that the caller
// sees of us.
func hideStreams() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, pastaReadyFD+1)
	if err != nil {
		return nil, fmt.Errorf("keep standard error: %w", err)
	}
	report := os.NewFile(uintptr(fd), "stderr")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		report.Close()
		return nil, fmt.Errorf("leave the standard streams: %w", err)
	}
	defer null.Close()
	for _, stream := range []int{unix.Stdin, unix.Stdout, unix.Stderr} {
		if err := unix.Dup3(int(null.Fd()), stream, 0); err != nil {
			report.Close()
			return nil, fmt.Errorf("leave the standard streams: %w", err)
		}
	}
	return report, nil
}

// checkRunAs refuses to be another user than the one who has started the program: the
// namespace is that user's. Words are UID[:GID] or LOGIN[:GROUP]; empty is who we are.
func checkRunAs(as string) error {
	if as == "" {
		return nil
	}
	name, group, grouped := strings.Cut(as, ":")
	uid, gid := name, group
	if u, err := user.Lookup(name); err == nil {
		uid = u.Uid
	}
	if g, err := user.LookupGroup(group); grouped && err == nil {
		gid = g.Gid
	}
	if uid != strconv.Itoa(os.Geteuid()) || grouped && gid != strconv.Itoa(os.Getegid()) {
		return fmt.Errorf("--runas %s is not supported: start pasta as that user", as)
	}
	return nil
}
