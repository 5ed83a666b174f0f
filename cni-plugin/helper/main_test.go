// SPDX-License-Identifier: Apache-2.0

package helper

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the test binary does where it is started as a helper: the last argument but the
// namespace.
const (
	modeReady   = "ready"   // it says that its network is up, and waits to be stopped
	modeStays   = "stays"   // the same, and only a kill stops it
	modeFails   = "fails"   // it says why, and ends
	modeSilent  = "silent"  // it ends
	modeNever   = "never"   // it never gets ready
	modeReports = "reports" // it writes what it has of its starter to its log, and is ready
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Word {
		os.Exit(helperMain(os.Args))
	}
	// As the plugin's main does.
	_ = unix.CloseRange(readyFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	os.Exit(m.Run())
}

// helperMain stands for `slipway attach`.
func helperMain(args []string) int {
	mode := args[len(args)-3]
	switch mode {
	case modeFails:
		fmt.Fprintln(os.Stderr, "slipway: first\nslipway: no such luck")
		return 1
	case modeSilent:
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	pidfile := args[slices.Index(args, "--pidfile")+1]
	if err := lock(pidfile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	unix.Close(lockFD)
	if mode == modeReports {
		report(args)
	}
	if mode != modeNever {
		if _, err := os.NewFile(readyFD, "ready").Write([]byte("1")); err != nil {
			return 1
		}
	}
	for range stop {
		if mode != modeStays && mode != modeNever {
			return 0
		}
	}
	return 1
}

// lock locks the pidfile as the helper does, for as long as it lives.
func lock(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return err
	}
	_, err = unix.Write(fd, fmt.Appendln(nil, os.Getpid()))
	return err
}

// report tells what a helper must not have of its starter, and what it must.
func report(args []string) {
	fmt.Println("args", strings.Join(args, " "))
	fmt.Println("env", strings.Join(os.Environ(), " "))
	dir, _ := os.Getwd()
	fmt.Println("dir", dir)
	session, _ := unix.Getsid(0)
	fmt.Println("session", session == os.Getpid())
	var open []string
	for fd := range 64 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			open = append(open, fmt.Sprint(fd))
		}
	}
	fmt.Println("inherited", strings.Join(open, " "))
}
