// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"unsafe"

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

// A udpSender collects the datagrams of one flow that came in one batch of
// frames, and sends them with one system call. Datagrams of one length to one
// destination that follow each other become one message, which the host's
// kernel cuts up again at the last moment (UDP_SEGMENT of udp(7)).
type udpSender struct {
	n     *Network
	flow  *udpFlow
	runs  [sendRuns]run
	count int
	arena []byte
	used  int

	msgs  [sendRuns]mmsghdr
	iov   [sendRuns]unix.Iovec
	names [sendRuns]unix.RawSockaddrInet6
	cmsgs [sendRuns][segmentCmsgLen]byte
}

// run is a message: datagrams of one length, of which the last may be shorter.
type run struct {
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

// segmentCmsgLen is the room for the control message with the segment size.
const segmentCmsgLen = 24 // CMSG_SPACE(sizeof(uint16))

// add takes the datagram p, or the segments of that size that it is made of, and
// copies it.
func (s *udpSender) add(f *udpFlow, dst netip.AddrPort, p *packet, segment int) {
	size := p.len() - udpLen
	if s.flow != f || s.count == sendRuns || s.used+size > sendArena {
		s.flush()
		s.flow = f
	}
	if s.arena == nil {
		s.arena = make([]byte, sendArena)
	}
	if segment == 0 {
		segment = size
	}
	f.up += uint64(size)
	at := s.used
	s.used += copy(s.arena[at:], p.l4[udpLen:])
	s.used += copy(s.arena[s.used:], p.rest)
	if s.extend(f, dst, size, segment) {
		return
	}
	s.runs[s.count] = run{
		dst: dst, start: at, size: size, segment: segment,
		count: segments(size, segment), ended: segment == 0 || size%segment != 0,
	}
	s.count++
}

// extend makes the datagrams that were just copied part of the last run, where
// they fit it.
func (s *udpSender) extend(f *udpFlow, dst netip.AddrPort, size, segment int) bool {
	if s.count == 0 || size == 0 || segment > f.gsoMax {
		return false
	}
	r := &s.runs[s.count-1]
	single := size == segment
	if r.ended || r.dst != dst || r.size+size > maxDatagram || r.count+segments(size, segment) > maxSegments {
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
	f, count := s.flow, s.count
	s.flow, s.count, s.used = nil, 0, 0
	for i := 0; i < count; {
		n, errno := s.send(f, i, count)
		i += n
		if errno != 0 && i < count {
			s.failed(f, &s.runs[i], errno)
			i++
		}
	}
}

// send sends the runs from first to last and returns how many the kernel took.
func (s *udpSender) send(f *udpFlow, first, last int) (int, unix.Errno) {
	for i := first; i < last; i++ {
		s.message(i)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&s.msgs[first])),
		uintptr(last-first), 0, 0, 0)
	runtime.KeepAlive(s)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// message prepares the message of run i.
func (s *udpSender) message(i int) {
	r := &s.runs[i]
	m := &s.msgs[i]
	*m = mmsghdr{}
	m.hdr.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	m.hdr.Namelen = putSockaddr(&s.names[i], r.dst)
	if r.size > 0 {
		s.iov[i] = iovec(s.arena[r.start : r.start+r.size])
		m.hdr.Iov = &s.iov[i]
		m.hdr.SetIovlen(1)
	}
	if r.count > 1 {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&s.cmsgs[i][0]))
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(s.cmsgs[i][unix.CmsgLen(0):], uint16(r.segment))
		m.hdr.Control = &s.cmsgs[i][0]
		m.hdr.SetControllen(segmentCmsgLen)
	}
}

// failed deals with a run that the kernel did not take.
func (s *udpSender) failed(f *udpFlow, r *run, errno unix.Errno) {
	switch {
	case r.count > 1:
		// The route takes no such super-datagrams: they are longer than its MTU, and
		// must be fragmented, or its device has no checksum offload (EIO). Other
		// errors are those of earlier datagrams.
		switch errno {
		case unix.EIO:
			f.gsoMax = 0
		case unix.EINVAL, unix.EMSGSIZE:
			f.gsoMax = r.segment - 1
		}
		s.singly(f, r)
	case errno == unix.EAGAIN || errno == unix.ENOBUFS:
		s.n.count.inc(dropSend)
	default:
		s.report(f, r, errno)
	}
}

// singly sends the datagrams of a run one by one.
func (s *udpSender) singly(f *udpFlow, r *run) {
	for at := 0; at < r.size; at += r.segment {
		b := s.arena[r.start+at : r.start+min(at+r.segment, r.size)]
		err := unix.Sendto(f.fd, b, 0, sockaddr(r.dst))
		if err != nil && err != unix.EAGAIN && err != unix.ENOBUFS {
			s.report(f, &run{dst: r.dst, start: r.start + at, size: len(b)}, err)
			return
		}
		if err != nil {
			s.n.count.inc(dropSend)
		}
	}
}

// report tells the container why a datagram of its did not go. Errors of earlier
// datagrams, which the kernel reports on the next call too, are on the socket's
// error queue with their details: those come from there, and this one is sent
// again.
func (s *udpSender) report(f *udpFlow, r *run, err error) {
	if f.drainErrors() {
		if unix.Sendto(f.fd, s.arena[r.start:r.start+r.size], 0, sockaddr(r.dst)) == nil {
			return
		}
	}
	s.n.count.inc(dropSend)
	quoted := make([]byte, udpLen, udpLen+icmpHeaderLen)
	remote := f.seenAs(r.dst)
	binary.BigEndian.PutUint16(quoted[0:], f.container.Port())
	binary.BigEndian.PutUint16(quoted[2:], remote.Port())
	binary.BigEndian.PutUint16(quoted[4:], uint16(udpLen+r.size))
	s.n.report(&packet{
		src: f.container.Addr(), dst: remote.Addr(), proto: protoUDP, ttl: f.ttl + 1, l4: quoted,
	}, troubleOf(err))
}

// segments is how many datagrams of at most segment bytes size bytes are.
func segments(size, segment int) int {
	if segment == 0 {
		return 1
	}
	return max(1, (size+segment-1)/segment)
}

// putSockaddr writes a into the room of a sockaddr_in6 and returns its length.
func putSockaddr(sa *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	var port uint16 // in network order
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&port))[:], a.Port())
	if a.Addr().Is4() {
		s4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*s4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: a.Addr().As4()}
		return unix.SizeofSockaddrInet4
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: a.Addr().As16()}
	return unix.SizeofSockaddrInet6
}

// addrPort reads back what the kernel wrote into sa.
func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:])
	if sa.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
}
