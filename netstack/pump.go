// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"bytes"
	"errors"
	"io"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/relay"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	// segmentMax is how much is written to gVisor at once (bytes): the most that
	// it sends as one super-frame (gsoMaxSize less the 160 bytes that it keeps
	// free for headers, less one). More would leave a runt behind each.
	segmentMax = gsoMaxSize - 160 - 1
	// scratchSize is the buffer that short messages are read into (bytes). What
	// fits costs a copy; what does not is asked for its length and read straight
	// into gVisor's buffer.
	scratchSize = 32 << 10
	// pumpBudget is how many reads a flow gets before it is another's turn.
	pumpBudget = 16
	// shortWrite is a length below which gVisor's account of a write takes more
	// memory than its bytes: about 1 KB, which no buffer size bounds.
	shortWrite = 256
	// shortRun is how many such writes in a row make a flow one of short writes.
	shortRun = 64
	// shortBuffer is what gVisor then buffers of it towards the container (bytes,
	// and so writes, at the most): if the container does not read, the rest waits
	// in the host's kernel, which puts it together.
	shortBuffer = 4 << 10
	// maxGather is how many pieces one writev(2) takes from gVisor.
	maxGather = 64
)

// errFull says that a gatherer or a discarder has all it can take.
var errFull = errors.New("full")

// pump is what moving bytes needs besides the flow. One serves all flows, since
// the loop moves one at a time.
type pump struct {
	gather  gatherer
	discard discarder
	bytes   bytes.Reader
	socket  socketPayload
	scratch [scratchSize]byte
	spare   []*tcpFlow
}

// move passes bytes both ways as far as both ends let it.
func (f *tcpFlow) move() {
	if f.state != open || f.service {
		return
	}
	if f.cut && f.downDone {
		f.endCut()
		return
	}
	f.last = f.table.n.now
	more := f.moveUp()
	if f.state == open {
		more = f.moveDown() || more
	}
	switch {
	case f.state != open:
	case f.cut && f.downDone:
		f.endCut()
	case f.upDone && f.downDone:
		f.finish()
	case (f.upDone || f.cut) && !lives(f.ep), f.downDone && f.hostFailed():
		// An end that had sent all it had to send has broken off since.
		f.reset()
	case more:
		f.table.n.loop.Defer(f.move)
	}
}

// moveUp passes bytes from the container to the host, and reports whether there
// may be more at once. gVisor's buffers are handed to writev(2) where they lie.
func (f *tcpFlow) moveUp() (more bool) {
	p := &f.table.pump
	for range pumpBudget {
		if f.upDone || f.cut || !f.canWrite || !f.table.n.ready(relay.Container, f) {
			return false
		}
		p.gather.reset()
		_, err := f.ep.Read(&p.gather, tcpip.ReadOptions{Peek: true})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			return false
		case *tcpip.ErrClosedForReceive:
			f.upDone = true
			shutdownWrite(f.fd) // fails only if the peer is gone, which moveDown sees
			return false
		default:
			f.reset()
			return false
		}
		n, errno := p.gather.writeTo(f.fd)
		if errno == unix.EAGAIN {
			f.canWrite = false
			return false
		}
		if errno == unix.EPIPE && f.socket != "" {
			// What the service has sent, and may still send, is there to be read.
			f.cut = true
			return false
		}
		if errno != 0 {
			f.reset()
			return false
		}
		f.up += uint64(n)
		f.table.n.throttles[relay.Container].bucket.Take(n)
		if n < p.gather.size {
			f.canWrite = false
		}
		p.discard.left = n
		f.table.n.link.acks.passed(n) // reading may widen the window again
		f.ep.Read(&p.discard, tcpip.ReadOptions{})
	}
	return true
}

// moveDown passes bytes from the host to the container, and reports whether there
// may be more at once.
func (f *tcpFlow) moveDown() (more bool) {
	for range pumpBudget {
		if f.downDone || !f.flushStash() || !f.canRead || !f.table.n.ready(relay.Host, f) {
			return false
		}
		before := f.down
		if f.bulk {
			if !f.readBulk() {
				return false
			}
		} else if !f.readShort() {
			f.table.n.throttles[relay.Host].bucket.Take(int(f.down - before))
			return false
		}
		f.table.n.throttles[relay.Host].bucket.Take(int(f.down - before))
	}
	return true
}

// readShort reads what may be a short message.
func (f *tcpFlow) readShort() bool {
	p := &f.table.pump
	n, errno := read(f.fd, p.scratch[:])
	switch {
	case errno == unix.EAGAIN:
		f.canRead = false
		return false
	case errno != 0:
		f.reset()
		return false
	case n == 0:
		f.downDone = true
		f.ep.Shutdown(tcpip.ShutdownWrite)
		return false
	}
	if n == len(p.scratch) {
		f.bulk = true
	} else if !f.toEnd {
		// All there was is read: what comes later is a new edge.
		f.canRead = false
	}
	return f.send(p.scratch[:n])
}

// readBulk reads straight into gVisor's buffer, which needs to know the length
// beforehand.
func (f *tcpFlow) readBulk() bool {
	waiting, errno := inQueue(f.fd)
	if errno != 0 || waiting <= scratchSize {
		f.bulk = false
		return true
	}
	s := &f.table.pump.socket
	*s = socketPayload{fd: f.fd, left: min(waiting, segmentMax)}
	n, terr := f.ep.Write(s, tcpip.WriteOptions{})
	f.down += uint64(n)
	f.countShort(int(n))
	return f.sent(terr)
}

// send writes b to the container and keeps what does not fit.
func (f *tcpFlow) send(b []byte) bool {
	r := &f.table.pump.bytes
	r.Reset(b)
	n, err := f.ep.Write(r, tcpip.WriteOptions{})
	f.down += uint64(n)
	f.countShort(int(n))
	if int(n) < len(b) {
		f.stash = append(f.stash[:0], b[n:]...)
	}
	return f.sent(err)
}

// countShort notes the length of a write to the container, and fits the buffer to
// what kind of writes there are.
func (f *tcpFlow) countShort(n int) {
	switch {
	case n < shortWrite:
		if f.shorts++; f.shorts == shortRun {
			f.ep.SocketOptions().SetSendBufferSize(shortBuffer, true)
		}
	case f.shorts >= shortRun:
		f.ep.SocketOptions().SetSendBufferSize(int64(f.table.budget.bytes()), true)
		fallthrough
	default:
		f.shorts = 0
	}
}

// flushStash writes what did not fit before, and reports whether all of it went.
func (f *tcpFlow) flushStash() bool {
	if len(f.stash) == 0 {
		return true
	}
	b := f.stash
	f.stash = nil
	return f.send(b) && len(f.stash) == 0
}

// sent looks at the outcome of a write to the container, and reports whether the
// next may follow.
func (f *tcpFlow) sent(err tcpip.Error) bool {
	switch err.(type) {
	case nil:
		return true
	case *tcpip.ErrWouldBlock:
		return false // gVisor tells when there is room
	}
	f.reset()
	return false
}

// A gatherer collects the pieces that gVisor would read out, so that they can be
// written where they lie. They stay valid until they are read for good.
type gatherer struct {
	iov  [maxGather]unix.Iovec
	n    int
	size int

	limit int // above 0, a size that is enough
}

func (g *gatherer) reset() { g.n, g.size = 0, 0 }

// Write implements io.Writer for gVisor's Endpoint.Read.
func (g *gatherer) Write(b []byte) (int, error) {
	if g.n == len(g.iov) || g.limit > 0 && g.size >= g.limit {
		return 0, errFull
	}
	if len(b) > 0 {
		g.iov[g.n] = iovec(b)
		g.n++
		g.size += len(b)
	}
	return len(b), nil
}

func (g *gatherer) writeTo(fd int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&g.iov[0])), uintptr(g.n))
	clear(g.iov[:g.n])
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// A discarder takes exactly as many bytes as were written elsewhere.
type discarder struct{ left int }

// Write implements io.Writer for gVisor's Endpoint.Read.
func (d *discarder) Write(b []byte) (int, error) {
	if len(b) > d.left {
		n := d.left
		d.left = 0
		return n, errFull
	}
	d.left -= len(b)
	return len(b), nil
}

// A socketPayload lets gVisor read bytes that are waiting in a socket into a
// buffer of its own. It implements tcpip.Payloader, whose Len must be exact.
type socketPayload struct{ fd, left int }

// Len returns how many bytes there are.
func (s *socketPayload) Len() int { return s.left }

// Read implements io.Reader.
func (s *socketPayload) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, errno := read(s.fd, b[:min(len(b), s.left)])
	if errno != 0 || n == 0 {
		// They were there a moment ago: only we read from this socket.
		return 0, io.ErrUnexpectedEOF
	}
	s.left -= n
	return n, nil
}
