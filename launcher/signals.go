// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

// signalQueue is the number of signals that may wait until the command has
// started; as with the kernel's own, more of them are lost.
const signalQueue = 64

// signals receives the signals that are meant for the command.
type signals struct {
	os   chan os.Signal
	c    chan unix.Signal
	done chan struct{}
}

// newSignals starts to receive passedSignals and more; stop ends it.
func newSignals(more ...os.Signal) *signals {
	s := &signals{os: make(chan os.Signal, signalQueue), c: make(chan unix.Signal), done: make(chan struct{})}
	signal.Notify(s.os, append(passedSignals(), more...)...)
	go func() {
		for {
			select {
			case sig := <-s.os:
				select {
				case s.c <- sig.(unix.Signal):
				case <-s.done:
					return
				}
			case <-s.done:
				return
			}
		}
	}()
	return s
}

func (s *signals) stop() {
	signal.Stop(s.os)
	close(s.done)
}

// passedSignals are all that a user sends on purpose: not those that the kernel
// raises for a fault of this process or its children, and not those by which a
// terminal stops a job, which stop the supervisor itself.
func passedSignals() []os.Signal {
	all := []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGALRM, unix.SIGCONT, unix.SIGWINCH, unix.SIGABRT, unix.SIGIO, unix.SIGPWR,
	}
	// What the caller had ignored, as nohup(1) does, the command ignores as well.
	return slices.DeleteFunc(all, signal.Ignored)
}
