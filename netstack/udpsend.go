// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

const (
	// sendRuns is how many messages one sendmmsg(2) takes.
	sendRuns = 64
	// sendArena is the room for the payload of all of them (bytes).
	sendArena = 256 << 10
	// maxSegments is how many datagrams one message may stand for,
	// UDP_MAX_SEGMENTS of include/linux/udp.h before it was doubled in Linux 6.9.
	maxSegments = 64
	// maxDatagram is the longest payload of a UDP datagram, and so of a message
	// that stands for several (bytes): 65535 less the IPv4 and UDP headers.
	maxDatagram = 65535 - ipv4MinLen - udpLen
)

// A udpSender collects the datagrams for one socket that came in one batch of
// frames, and sends them with one system call. Datagrams of one flow, of one length
// and to one destination that follow each other become one message, which the
// host's kernel cuts up again at the last moment (UDP_SEGMENT of udp(7)).
type udpSender struct {
	n     *Network
	fd    int // of the socket, if count is not 0
	runs  [sendRuns]run
	count int
	arena []byte
	used  int

	msgs  [sendRuns]mmsghdr
	iov   [sendRuns]unix.Iovec
	names [sendRuns]unix.RawSockaddrInet6
	cmsgs [sendRuns][sendCmsgLen]byte
}

// run is a message: datagrams of one length, of which the last may be shorter.
type run struct {
	out     *outlet
	dst     netip.AddrPort
	start   int // in the arena
	size    int // bytes of payload in all
	segment int // bytes of each datagram
	count   int
	ended   bool // a shorter one was last
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// add takes the datagram p, or the segments of that size that it is made of.
func (s *udpSender) add(out *outlet, dst netip.AddrPort, p *packet, segment int) {
	s.put(out, dst, segment, p.l4[udpLen:], p.rest)
}

// put takes a payload in two pieces, or the segments of that size that it is made of,
// and copies it. What out says must stay so until it is flushed.
func (s *udpSender) put(out *outlet, dst netip.AddrPort, segment int, head, rest []byte) {
	size := len(head) + len(rest)
	if s.fd != out.fd || s.count == sendRuns || s.used+size > sendArena {
		s.flush()
		s.fd = out.fd
	}
	if s.arena == nil {
		s.arena = make([]byte, sendArena)
	}
	if segment == 0 {
		segment = size
	}
	at := s.used
	s.used += copy(s.arena[at:], head)
	s.used += copy(s.arena[s.used:], rest)
	if s.extend(out, dst, size, segment) {
		return
	}
	s.runs[s.count] = run{
		out: out, dst: dst, start: at, size: size, segment: segment,
		count: segments(size, segment), ended: segment == 0 || size%segment != 0,
	}
	s.count++
}

// extend makes the datagrams that were just copied part of the last run, where
// they fit it.
func (s *udpSender) extend(out *outlet, dst netip.AddrPort, size, segment int) bool {
	if s.count == 0 || size == 0 || segment > out.gsoMax {
		return false
	}
	r := &s.runs[s.count-1]
	single := size == segment
	if r.ended || r.out != out || r.dst != dst || r.size+size > maxDatagram || r.count+segments(size, segment) > maxSegments {
		return false
	}
	if segment != r.segment && (!single || size > r.segment) {
		return false
	}
	r.size += size
	r.count += segments(size, r.segment)
	r.ended = size%r.segment != 0
	return true
}

// flush sends what was collected.
func (s *udpSender) flush() {
	count := s.count
	s.count, s.used = 0, 0
	for i := 0; i < count; {
		for j := i; j < count; j++ {
			s.message(j, &s.runs[j])
		}
		n, errno := s.send(i, count)
		i += n
		if errno != 0 && i < count {
			s.failed(i, errno)
			i++
		}
	}
}

// send sends the messages from first to last and returns how many the kernel took.
func (s *udpSender) send(first, last int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.msgs[first])),
		uintptr(last-first), 0, 0, 0)
	runtime.KeepAlive(s)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// message prepares message i, which sends r.
func (s *udpSender) message(i int, r *run) {
	m := &s.msgs[i]
	*m = mmsghdr{}
	m.hdr.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	m.hdr.Namelen = sockaddr.Put(&s.names[i], r.dst)
	if r.size > 0 {
		s.iov[i] = iovec(s.arena[r.start : r.start+r.size])
		m.hdr.Iov = &s.iov[i]
		m.hdr.SetIovlen(1)
	}
	c := cmsgs{b: s.cmsgs[i][:]}
	if r.out.shared {
		c.source(r.out)
	}
	if r.count > 1 {
		c.segment(r.segment)
	}
	if c.n > 0 {
		m.hdr.Control = &s.cmsgs[i][0]
		m.hdr.SetControllen(c.n)
	}
}

// failed deals with the run i, which the kernel did not take.
func (s *udpSender) failed(i int, errno unix.Errno) {
	r := &s.runs[i]
	switch {
	case r.count > 1:
		// The route takes no such super-datagrams: they are longer than its MTU, and
		// must be fragmented, or its device has no checksum offload (EIO). Other
		// errors are those of earlier datagrams.
		switch errno {
		case unix.EIO:
			r.out.gsoMax = 0
		case unix.EINVAL, unix.EMSGSIZE:
			r.out.gsoMax = r.segment - 1
		}
		s.singly(i)
	case errno == unix.EAGAIN || errno == unix.ENOBUFS:
		s.n.count.inc(dropSend)
	default:
		s.report(i, r, errno)
	}
}

// singly sends the datagrams of the run i one by one.
func (s *udpSender) singly(i int) {
	r := &s.runs[i]
	for at := 0; at < r.size; at += r.segment {
		one := run{out: r.out, dst: r.dst, start: r.start + at, size: min(r.segment, r.size-at), count: 1}
		s.message(i, &one)
		_, errno := s.send(i, i+1)
		if errno != 0 && errno != unix.EAGAIN && errno != unix.ENOBUFS {
			s.report(i, &one, errno)
			return
		}
		if errno != 0 {
			s.n.count.inc(dropSend)
		}
	}
}

// report tells the container why r, which is message i, did not go. Errors of
// earlier datagrams, which the kernel reports on the next call too, are on the
// socket's error queue with their details: those come from there, and this one is
// sent again.
func (s *udpSender) report(i int, r *run, errno unix.Errno) {
	if r.out.owner.drainErrors() {
		s.message(i, r)
		if _, errno := s.send(i, i+1); errno == 0 {
			return
		}
	}
	s.n.count.inc(dropSend)
	container, remote := r.out.owner.ends(r.dst)
	if !container.IsValid() {
		return // there is nobody to tell
	}
	s.n.report(&packet{
		src: container.Addr(), dst: remote.Addr(), proto: protoUDP, ttl: r.out.ttl + 1,
		l4: quotedUDP(container.Port(), remote.Port(), r.size, nil),
	}, troubleOf(errno))
}

// segments is how many datagrams of at most segment bytes size bytes are.
func segments(size, segment int) int {
	if segment == 0 {
		return 1
	}
	return max(1, (size+segment-1)/segment)
}
