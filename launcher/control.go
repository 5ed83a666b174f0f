// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrEnded says that a container has ended, so that nothing can be done to it.
var ErrEnded = errors.New("the container has ended")

// do has the goroutine of Run call f, which must not wait. Before Run has started
// the command it waits for that.
func (ct *Container) do(f func(*running)) error {
	select {
	case ct.asked <- f:
		return nil
	case <-ct.ended:
		return ErrEnded
	}
}

// Signal sends the command a signal, as one to this process is passed on. It may
// be called from any goroutine, and waits until Run has come to passing signals
// on. The error is ErrEnded if the container has ended.
func (ct *Container) Signal(sig unix.Signal) error {
	return ct.do(func(r *running) { r.signal(sig) })
}

// Kill ends the container at once, whatever runs in it. It is called as Signal is.
func (ct *Container) Kill() error {
	return ct.do(func(r *running) { r.kill() })
}

// Resize gives the container's terminal, if it has one, a size in characters. It
// is called as Signal is.
func (ct *Container) Resize(rows, columns uint16) error {
	return ct.do(func(r *running) {
		if r.term != nil {
			r.term.setSize(rows, columns)
		}
	})
}
