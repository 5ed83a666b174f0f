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

// newSignals starts to receive endingSignals; stop ends it.
func newSignals() *signals {
	s := &signals{os: make(chan os.Signal, signalQueue), c: make(chan unix.Signal), done: make(chan struct{})}
	s.receive(heeded(endingSignals()))
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

// pass starts to receive passedSignals and more, too. For each signal the runtime changes
// threads twice (ensureSigM of runtime/signal_unix.go): that is for when the caller waits
// for others anyway.
func (s *signals) pass(more ...os.Signal) { s.receive(append(heeded(passedSignals()), more...)) }

func (s *signals) receive(all []os.Signal) {
	if len(all) > 0 { // of none, Notify takes all
		signal.Notify(s.os, all...)
	}
}

// heeded leaves out what the caller had ignored, as nohup(1) does: the command ignores it
// as well.
func heeded(all []os.Signal) []os.Signal { return slices.DeleteFunc(all, signal.Ignored) }

// stop may be called once.
func (s *signals) stop() {
	signal.Stop(s.os)
	close(s.done)
}

// endingSignals are those by which users end a program. From the start on they must not
// end this process, but what it has begun.
func endingSignals() []os.Signal {
	return []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM}
}

// passedSignals are, with endingSignals, all that a user sends on purpose: not those that
// the kernel raises for a fault of this process or its children, and not those by which a
// terminal stops a job, which stop the supervisor itself.
func passedSignals() []os.Signal {
	return []os.Signal{
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGCONT, unix.SIGWINCH, unix.SIGABRT, unix.SIGIO, unix.SIGPWR,
	}
}
