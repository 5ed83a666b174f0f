// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"runtime"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/shape"
	"golang.org/x/sys/unix"
)

// The ends of a Relay.
const (
	Container = iota
	Host
)

// budget is how many times a way reads before it is another's turn.
const budget = 16

// A Relay moves bytes between two connected, non-blocking stream sockets, TCP's or
// Unix ones, both ways, and passes on the end of each. It keeps no bytes and no pipe while nothing is
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
	// toEnd: a short read does not mean that nothing is left. There may be the end,
	// or, where reads stop short of it, urgent data.
	toEnd bool
	// failed: the socket has an error to tell, which no read may come to see.
	failed bool
	unix   bool // a Unix socket
}

type way struct {
	moved uint64 // bytes
	taken uint64 // bytes that were read
	pipe  *pipe  // has bytes that the other end did not take
	stash []byte // the same, of those that were copied
	bulk  bool   // the last read was large
	done  bool   // the end was passed on
	dry   bool   // there is something to read, for which the bucket had nothing
	told  bool   // … by shutdown(2): the other end's own was still to come
	cut   bool   // the other end takes no more; to be reset when that has sent all
}

// Start prepares the relay for two sockets that may be written; what can be read
// is for Note to say, as epoll does of a socket that has just been registered.
func (r *Relay) Start(p *Pool, container, host int) {
	*r = Relay{pool: p}
	r.ends[Container] = end{fd: container, writable: true}
	r.ends[Host] = end{fd: host, writable: true}
}

// MarkUnix says that an end is a Unix socket. A short read of one does not mean that
// nothing is left, since a message that came with descriptors ends a read (unix(7));
// and it takes no more from the moment its owner has closed it, while what that had
// sent is still to be read.
func (r *Relay) MarkUnix(which int) { r.ends[which].unix, r.ends[which].toEnd = true, true }

// Note takes note of events of an end's socket; Move acts on them.
func (r *Relay) Note(which int, ev loop.Events) {
	e := &r.ends[which]
	if ev&(loop.Readable|loop.Urgent|loop.ReadHangUp|loop.HangUp|loop.Error) != 0 {
		e.readable = true
	}
	if ev&(loop.Urgent|loop.ReadHangUp|loop.HangUp|loop.Error) != 0 {
		e.toEnd = true
	}
	if ev&(loop.Writable|loop.HangUp|loop.Error) != 0 {
		e.writable = true
	}
	if ev&loop.Error != 0 {
		e.failed = true
	}
}

// Move moves what can be moved, and reports whether there may be more at once. An
// error is that of the socket which broke: the connection is to be reset.
func (r *Relay) Move() (more bool, err error) {
	for which := range r.ways {
		m, errno := r.move(which)
		if errno == unix.EPIPE && r.ends[1-which].unix {
			r.ways[which].cut = true
			r.drop(&r.ways[which])
		} else if errno != 0 {
			// What was sent the other way before it broke is still there to be read.
			err = errno
		}
		more = more || m
	}
	for which := range r.ends {
		if r.ways[which].cut && r.ways[1-which].done && err == nil {
			err = unix.EPIPE
		}
		// An end whose peer had sent all, or whose way is cut, is not read any more.
		if e := &r.ends[which]; err == nil && e.failed && (r.ways[which].done || r.ways[which].cut) {
			e.failed = false
			if errno, _ := unix.GetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
				err = unix.Errno(errno)
			}
		}
	}
	return more && err == nil, err
}

// Done reports whether both ways have come to their end.
func (r *Relay) Done() bool { return r.ways[Container].done && r.ways[Host].done }

// Ended reports whether the end's peer has said that it sends no more, and the
// other end was told.
func (r *Relay) Ended(which int) bool { return r.ways[which].done }

// First reports whether that end's peer was the first to say that it sends no more, so that
// the other socket has sent a FIN, and Done means that it has got one too.
func (r *Relay) First(which int) bool { return r.ways[which].told }

// Moved returns how many bytes the end's peer has sent that the other end took.
func (r *Relay) Moved(which int) uint64 { return r.ways[which].moved }

// Dry reports whether bytes of the end's peer wait for the bucket of their direction.
// The owner is to call Move again when that is ready.
func (r *Relay) Dry(which int) bool { return r.ways[which].dry }

// Stop gives back what the relay holds. Bytes that are stuck are lost.
func (r *Relay) Stop() {
	for i := range r.ways {
		r.drop(&r.ways[i])
	}
}

// drop takes everything off the way.
func (r *Relay) drop(w *way) {
	if w.pipe != nil {
		r.pool.giveBack(w.pipe)
		w.pipe = nil
	}
	r.unstash(w)
}

// unstash takes what was copied off the way.
func (r *Relay) unstash(w *way) []byte {
	b := w.stash
	if b != nil {
		w.stash = nil
		r.pool.stashed -= len(b)
	}
	return b
}

// move moves bytes from the end to the other.
func (r *Relay) move(which int) (more bool, errno unix.Errno) {
	w, src, dst := &r.ways[which], &r.ends[which], &r.ends[1-which]
	w.dry = false
	for range budget {
		if w.done || w.cut || !dst.writable {
			return false, 0
		}
		if errno := r.flush(w, dst); errno != 0 || !dst.writable {
			return false, errno
		}
		if !src.readable {
			return false, 0
		}
		bucket := r.pool.Buckets[which]
		if w.dry = !bucket.Ready(); w.dry {
			return false, 0
		}
		end, before := false, w.taken
		if w.bulk {
			errno = r.readBulk(w, src, bucket != nil)
		} else {
			end, errno = r.readShort(w, src, dst)
		}
		bucket.Take(int(w.taken - before))
		if errno != 0 {
			return false, errno
		}
		if end {
			w.done = true
			if !r.ways[1-which].done { // else closing the socket says the same
				w.told = true
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
		b := r.unstash(w)
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
	b := r.pool.scratch[:]
	if r.pool.stashed >= maxStashed {
		b = b[:meagreSize]
	}
	n, errno := read(src.fd, b)
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
	w.taken += uint64(n)
	if n == len(b) {
		w.bulk = true
	} else if !src.toEnd {
		// All there was is read: what comes later is a new edge.
		src.readable = false
	}
	return false, r.write(w, dst, r.pool.scratch[:n])
}

// readBulk fills a pipe. Where that gets nothing, readShort is to say what there is:
// splice(2) takes urgent data for the end, or for nothing (tcp_read_sock in
// net/ipv4/tcp.c).
func (r *Relay) readBulk(w *way, src *end, bounded bool) unix.Errno {
	p := r.pool.lend()
	if p == nil {
		w.bulk = false
		return 0
	}
	size := pipeSize
	if bounded {
		size = shape.Quantum
	}
	n, errno := splice(src.fd, p.w, size)
	p.held = n
	w.taken += uint64(n)
	if n > 0 {
		w.pipe = p
		return 0
	}
	r.pool.giveBack(p)
	switch errno {
	case 0, unix.EAGAIN:
		w.bulk = false
	case unix.EINTR:
	default:
		return errno
	}
	return 0
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
		r.pool.stashed += len(w.stash)
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
