// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An outlet is a pipe to a terminal of the caller's. The terminal itself is not for a
// container: whoever has it open for writing mostly can read what is typed, too, and a
// process that stays in the container has it open for as long as it likes.
type outlet struct {
	to           *os.File // the terminal
	theirs, ours *os.File
	copying      sync.WaitGroup
}

// maxOutlet bounds in bytes what is read of a pipe or a terminal once the command has ended: as much
// as a pipe of a plain user's holds (/proc/sys/fs/pipe-max-size), so that one who stays
// and writes on is not waited for.
const maxOutlet = 1 << 20

// newOutlet makes an outlet to the terminal.
func newOutlet(to *os.File) (*outlet, error) {
	o := &outlet{to: to}
	var err error
	if o.ours, o.theirs, err = os.Pipe(); err != nil {
		return nil, fmt.Errorf("make a pipe to the terminal: %w", err)
	}
	o.copying.Go(func() {
		_, err := io.Copy(to, o.ours)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			passRest(to, o.ours)
		}
		o.ours.Close() // a terminal that is gone is gone for the writers, too
	})
	return o, nil
}

// passRest passes on what is in a pipe or a terminal, and waits for no more.
func passRest(to io.Writer, from *os.File) {
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, copyBuf)
	for left := maxOutlet; left > 0; {
		n := 0
		err := raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) }) // it does not block
		if err != nil || n <= 0 {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		left -= n
	}
}

// started closes the end that the container has by now.
func (o *outlet) started() { o.theirs.Close() }

// close passes on what is left. The command must have ended, or not have started.
func (o *outlet) close() {
	o.theirs.Close()
	_ = o.ours.SetReadDeadline(time.Unix(1, 0)) // fails if it is closed already
	o.copying.Wait()
}

// streamFDs returns the descriptors that a command gets as its streams: null for one
// that is missing or that the container's terminal replaces, and an outlet, which is
// r's, for a terminal of the caller's.
func (r *running) streamFDs(null int) ([3]int, error) {
	fds := [3]int{null, null, null}
	c := &r.ct.cfg
	for i, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		switch {
		case f == nil || r.ct.plan.streams[i]:
		case i == 0 || !isTerminal(f):
			fds[i] = int(f.Fd()) // and makes it blocking, as commands expect
		default:
			o, err := r.outlet(f)
			if err != nil {
				return fds, err
			}
			fds[i] = int(o.theirs.Fd())
		}
	}
	return fds, nil
}

// outlet returns the outlet to a terminal: both streams have the same to the same one,
// so that what is written to them comes in its order.
func (r *running) outlet(f *os.File) (*outlet, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at the terminal: %w", err)
	}
	for _, o := range r.outlets {
		if other, err := o.to.Stat(); err == nil && os.SameFile(info, other) {
			return o, nil
		}
	}
	o, err := newOutlet(f)
	if err == nil {
		r.outlets = append(r.outlets, o)
	}
	return o, err
}

func (r *running) closeOutlets() {
	for _, o := range r.outlets {
		o.close()
	}
}
