// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"github.com/slipway-net/slipway/netstack/shape"
	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a pipe of ours holds (bytes). The kernel lets a user have
	// 64 MiB in pipes larger than the usual 64 KiB (pipe-user-pages-soft of
	// pipe(7)); where it refuses, 64 KiB have to do.
	pipeSize = 1 << 20
	// largePipes is how many are that large: a few processes like ours may have one
	// user between them, and whatever else that runs needs pipes too.
	largePipes = 16
	// maxPipes is how many are made. A flow without one copies its bytes.
	maxPipes = 48
	// scratchSize is the buffer that short messages are read into (bytes): for
	// those, a copy is cheaper than two calls of splice(2).
	scratchSize = 32 << 10
	// maxStashed is how much relays may have copied (bytes) before they read no more
	// than meagreSize at once: readers that stop reading cost memory, each.
	maxStashed = 32 << 20
	meagreSize = 512
)

// A Pool has what relays share: pipes, which are lent only while bytes are in
// them, and a buffer. The zero Pool is ready. It is for one goroutine at a time.
type Pool struct {
	free    []*pipe
	made    int
	large   int // of those made
	stashed int // bytes that relays have copied
	scratch [scratchSize]byte

	// Buckets bound what is read from the ends of all relays; nil is no bound.
	Buckets [2]*shape.Bucket
}

// A pipe holds bytes on their way between two sockets, without a copy: the pages
// that they came in.
type pipe struct {
	r, w  int
	held  int // bytes
	large bool
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
	q := &pipe{r: fds[0], w: fds[1], large: p.large < largePipes}
	if q.large {
		// Refused, the pipe keeps the size it has.
		_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
		p.large++
	}
	p.made++
	return q
}

// giveBack takes a pipe back. One with bytes in it, which nobody wants any more,
// is closed.
func (p *Pool) giveBack(q *pipe) {
	if q.held > 0 {
		p.close(q)
		return
	}
	p.free = append(p.free, q)
}

// Close closes the pipes that are not lent.
func (p *Pool) Close() {
	for _, q := range p.free {
		p.close(q)
	}
	p.free = nil
}

func (p *Pool) close(q *pipe) {
	unix.Close(q.r)
	unix.Close(q.w)
	p.made--
	if q.large {
		p.large--
	}
}
