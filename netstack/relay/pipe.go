// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a pipe of ours holds (bytes). The kernel lets a user have
	// 64 MiB in pipes larger than the usual 64 KiB (pipe-user-pages-soft of
	// pipe(7)); where it refuses, 64 KiB have to do.
	pipeSize = 1 << 20
	// maxPipes is how many are made. A flow without one copies its bytes.
	maxPipes = 48
	// scratchSize is the buffer that short messages are read into (bytes): for
	// those, a copy is cheaper than two calls of splice(2).
	scratchSize = 32 << 10
)

// A Pool has what relays share: pipes, which are lent only while bytes are in
// them, and a buffer. The zero Pool is ready. It is for one goroutine at a time.
type Pool struct {
	free    []*pipe
	made    int
	scratch [scratchSize]byte
}

// A pipe holds bytes on their way between two sockets, without a copy: the pages
// that they came in.
type pipe struct {
	r, w int
	held int // bytes
}

// lend returns an empty pipe, or nil where there is none to be had.
func (p *Pool) lend() *pipe {
	if n := len(p.free); n > 0 {
		q := p.free[n-1]
		p.free = p.free[:n-1]
		return q
	}
	if p.made == maxPipes {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil
	}
	// Refused, the pipe keeps the size it has.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	p.made++
	return &pipe{r: fds[0], w: fds[1]}
}

// giveBack takes a pipe back. One with bytes in it, which nobody wants any more,
// is closed.
func (p *Pool) giveBack(q *pipe) {
	if q.held > 0 {
		q.close()
		p.made--
		return
	}
	p.free = append(p.free, q)
}

// Close closes the pipes that are not lent.
func (p *Pool) Close() {
	for _, q := range p.free {
		q.close()
		p.made--
	}
	p.free = nil
}

func (q *pipe) close() {
	unix.Close(q.r)
	unix.Close(q.w)
}
