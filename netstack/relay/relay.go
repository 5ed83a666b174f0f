// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"runtime"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// The ends of a Relay.
const (
	Container = iota
	Host
)

// budget is how many times a way reads before it is another's turn.
const budget = 16

// A Relay moves bytes between two connected, non-blocking TCP sockets, both ways,
// and passes on the end of each. It keeps no bytes and no pipe while nothing is
// stuck. Its sockets, registered with edge-triggered events, stay their owner's.
// It is for one goroutine at a time.
type Relay struct {
	pool *Pool
	ends [2]end
	ways [2]way // by the end that they begin at
}

type end struct {
	fd       int
	readable bool // edges not yet used up
	writable bool
	hungUp   bool // the peer sends nothing more
}

type way struct {
	moved uint64 // bytes
	pipe  *pipe  // has bytes that the other end did not take
	stash []byte // the same, of those that were copied
	bulk  bool   // the last read was large
	done  bool   // the end was passed on
}

// Start prepares the relay for two sockets that may be written; what can be read
// is for Note to say, as epoll does of a socket that has just been registered.
func (r *Relay) Start(p *Pool, container, host int) {
	*r = Relay{pool: p}
	r.ends[Container] = end{fd: container, writable: true}
	r.ends[Host] = end{fd: host, writable: true}
}

// Note takes note of events of an end's socket; Move acts on them.
func (r *Relay) Note(which int, ev loop.Events) {
	e := &r.ends[which]
	if ev&(loop.Readable|loop.ReadHangUp|loop.HangUp|loop.Error) != 0 {
		e.readable = true
	}
	if ev&(loop.ReadHangUp|loop.HangUp|loop.Error) != 0 {
		e.hungUp = true
	}
	if ev&(loop.Writable|loop.HangUp|loop.Error) != 0 {
		e.writable = true
	}
}

// Move moves what can be moved, and reports whether there may be more at once. An
// error is that of the socket which broke: the connection is to be reset.
func (r *Relay) Move() (more bool, err error) {
	for which := range r.ways {
		m, errno := r.move(which)
		if errno != 0 {
			return false, errno
		}
		more = more || m
	}
	return more, nil
}

// Done reports whether both ways have come to their end.
func (r *Relay) Done() bool { return r.ways[Container].done && r.ways[Host].done }

// Ended reports whether the end's peer has said that it sends no more, and the
// other end was told.
func (r *Relay) Ended(which int) bool { return r.ways[which].done }

// Moved returns how many bytes the end's peer has sent that the other end took.
func (r *Relay) Moved(which int) uint64 { return r.ways[which].moved }

// Stop gives back what the relay holds. Bytes that are stuck are lost.
func (r *Relay) Stop() {
	for i := range r.ways {
		w := &r.ways[i]
		if w.pipe != nil {
			r.pool.giveBack(w.pipe)
			w.pipe = nil
		}
		w.stash = nil
	}
}

// move moves bytes from the end to the other.
func (r *Relay) move(which int) (more bool, errno unix.Errno) {
	w, src, dst := &r.ways[which], &r.ends[which], &r.ends[1-which]
	for range budget {
		if w.done || !dst.writable {
			return false, 0
		}
		if errno := r.flush(w, dst); errno != 0 || !dst.writable {
			return false, errno
		}
		if !src.readable {
			return false, 0
		}
		end := false
		if w.bulk {
			end, errno = r.readBulk(w, src)
		} else {
			end, errno = r.readShort(w, src, dst)
		}
		if errno != 0 {
			return false, errno
		}
		if end {
			w.done = true
			if !r.ways[1-which].done { // else closing the socket says the same
				// Fails only if the peer is gone, which the other way sees.
				_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(dst.fd), unix.SHUT_WR, 0)
			}
			return false, 0
		}
	}
	return true, 0
}

// flush writes what did not fit before.
func (r *Relay) flush(w *way, dst *end) unix.Errno {
	if len(w.stash) > 0 {
		b := w.stash
		w.stash = nil
		if errno := r.write(w, dst, b); errno != 0 || len(w.stash) > 0 {
			return errno
		}
	}
	if w.pipe == nil {
		return 0
	}
	for w.pipe.held > 0 {
		n, errno := splice(w.pipe.r, dst.fd, w.pipe.held)
		switch errno {
		case 0:
			w.pipe.held -= n
			w.moved += uint64(n)
		case unix.EAGAIN:
			dst.writable = false
			return 0
		case unix.EINTR:
		default:
			return errno
		}
	}
	r.pool.giveBack(w.pipe)
	w.pipe = nil
	return 0
}

// readShort reads and writes what may be a short message, and reports whether the
// end has come.
func (r *Relay) readShort(w *way, src, dst *end) (bool, unix.Errno) {
	n, errno := read(src.fd, r.pool.scratch[:])
	switch {
	case errno == unix.EAGAIN:
		src.readable = false
		return false, 0
	case errno == unix.EINTR:
		return false, 0
	case errno != 0:
		return false, errno
	case n == 0:
		return true, 0
	}
	if n == scratchSize {
		w.bulk = true
	} else if !src.hungUp {
		// All there was is read: what comes later is a new edge.
		src.readable = false
	}
	return false, r.write(w, dst, r.pool.scratch[:n])
}

// readBulk fills a pipe, and reports whether the end has come.
func (r *Relay) readBulk(w *way, src *end) (bool, unix.Errno) {
	p := r.pool.lend()
	if p == nil {
		w.bulk = false
		return false, 0
	}
	n, errno := splice(src.fd, p.w, pipeSize)
	p.held = n
	if errno != 0 || n == 0 {
		r.pool.giveBack(p)
		if errno == unix.EAGAIN {
			src.readable, w.bulk = false, false
			return false, 0
		}
		if errno == unix.EINTR {
			return false, 0
		}
		return errno == 0, errno
	}
	w.pipe = p
	return false, 0
}

// write writes b to the end, and keeps what it does not take.
func (r *Relay) write(w *way, dst *end, b []byte) unix.Errno {
	n, errno := write(dst.fd, b)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		n = 0
	default:
		return errno
	}
	w.moved += uint64(n)
	if n < len(b) {
		w.stash = append([]byte(nil), b[n:]...)
		dst.writable = errno == unix.EINTR
	}
	return 0
}

// splice is splice(2), which moves bytes between a pipe and a socket. Like the
// calls below it does not tell the scheduler, since it cannot block.
func splice(from, to, size int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size),
		unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func read(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func write(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
