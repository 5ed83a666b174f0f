// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

const (
	// recvBatch is how many messages one recvmmsg(2) takes.
	recvBatch = 16
	// recvSize is the room for each: a super-datagram that the kernel has put
	// together (UDP_GRO of udp(7)) is no longer than a datagram can be.
	recvSize = 1 << 16
	// recvRounds is how often a flow may fill the batch before it is another's turn.
	recvRounds = 8
	// recvCmsgLen is the room for the control messages of one: segment size, hop
	// limit, and where it came in, which a socket of both families tells twice.
	recvCmsgLen = 128
	// errorCmsgLen is the same for a message of the error queue.
	errorCmsgLen = 512
	// errorsPerTurn bounds how many errors are read at once.
	errorsPerTurn = 32
)

// A udpReceiver has the room that datagrams from the host are received into. One
// serves all flows. Pages of it that were never used take no memory.
type udpReceiver struct {
	msgs  [recvBatch]mmsghdr
	iov   [recvBatch]unix.Iovec
	names [recvBatch]unix.RawSockaddrInet6
	cmsgs [recvBatch][recvCmsgLen]byte
	data  []byte   // recvBatch times recvSize
	parts [][]byte // of what is passed on
}

func newUDPReceiver() *udpReceiver {
	// An anonymous mapping is not cleared by hand, as make would have it.
	r := &udpReceiver{data: make([]byte, recvBatch*recvSize), parts: make([][]byte, 0, recvBatch)}
	for i := range r.msgs {
		r.iov[i] = iovec(r.data[i*recvSize : (i+1)*recvSize])
		h := &r.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.iov[i]
		h.SetIovlen(1)
		h.Control = &r.cmsgs[i][0]
	}
	return r
}

// receive fills the batch from fd and returns how many messages came.
func (r *udpReceiver) receive(fd int) (int, unix.Errno) {
	for i := range r.msgs {
		h := &r.msgs[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(recvCmsgLen)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msgs[0])), recvBatch, 0, 0, 0)
	runtime.KeepAlive(r)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// An arrival is what the kernel says of a message.
type arrival struct {
	from    netip.AddrPort
	segment int        // size of the datagrams that it is made of; 0 for a single one
	ttl     uint8      // hop limit; 0 if unknown
	to      netip.Addr // where it came in, on sockets that ask (setPacketInfo)
	ifindex uint32     // … and at which interface
}

// message returns the payload of message i, and what is known of it.
func (r *udpReceiver) message(i int) ([]byte, arrival) {
	m := &r.msgs[i]
	a := parseRecvCmsgs(r.cmsgs[i][:m.hdr.Controllen])
	a.from = addrPort(&r.names[i])
	return r.data[i*recvSize:][:m.len], a
}

// parseRecvCmsgs reads the control messages of a datagram; they come from the
// kernel.
func parseRecvCmsgs(b []byte) (a arrival) {
	for len(b) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil || len(data) < 4 {
			return a
		}
		v := binary.NativeEndian.Uint32(data)
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO:
			a.segment = int(v)
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT:
			a.ttl = uint8(v)
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// ipi_spec_dst, which also for a broadcast is an address to answer from.
			a.ifindex, a.to = v, netip.AddrFrom4([4]byte(data[4:]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			if to := netip.AddrFrom16([16]byte(data)); !to.Is4In6() { // else IP_PKTINFO is there, too
				a.ifindex, a.to = binary.NativeEndian.Uint32(data[16:]), to
			}
		}
		b = rest
	}
	return a
}

// A datagramSink is a socket's user, to whom what comes in is passed.
type datagramSink interface {
	drainErrors() bool
	// deliver takes datagrams of one origin, of a.segment bytes each where that is
	// not 0 and they are longer than that. The parts are good for the call.
	deliver(parts [][]byte, a arrival)
}

// drain passes on what has come in at fd, and reports whether there is more. Where
// join is set, datagrams of one origin and size that follow each other are passed on
// as one, as the kernel does it where it can (UDP_GRO).
func (r *udpReceiver) drain(fd int, to datagramSink, join bool) (more bool) {
	for range recvRounds {
		count, errno := r.receive(fd)
		if errno == unix.EAGAIN {
			return false
		}
		if errno != 0 {
			// The error of an earlier datagram: its details are on the error queue.
			if !to.drainErrors() {
				return false
			}
			continue
		}
		for i := 0; i < count; {
			b, a := r.message(i)
			r.parts = append(r.parts[:0], b)
			if i++; join && a.segment == 0 && len(b) > 0 {
				i += r.gather(i, count, &a)
			}
			to.deliver(r.parts, a)
		}
	}
	return true
}

// gather adds to the part that is there those of the messages from i to count that
// go with it, and returns how many these are.
func (r *udpReceiver) gather(i, count int, a *arrival) int {
	segment, size := len(r.parts[0]), len(r.parts[0])
	n := 0
	for ; i+n < count; n++ {
		b, next := r.message(i + n)
		size += len(b)
		if next != *a || len(b) == 0 || len(b) > segment || size > maxDatagram {
			break
		}
		r.parts = append(r.parts, b)
		if len(b) < segment {
			n++
			break // a shorter one can only be the last
		}
	}
	if n > 0 {
		a.segment = segment
	}
	return n
}

// receiver returns the receiver, which is made when it is first needed: an idle
// container has no use for it.
func (n *Network) receiver() *udpReceiver {
	if n.recv == nil {
		n.recv = newUDPReceiver()
	}
	return n.recv
}

// Ready is called by the loop with the socket's events.
func (f *udpFlow) Ready(ev loop.Events) {
	if ev&loop.Error != 0 {
		f.drainErrors()
	}
	f.receive()
}

// receive passes what came from the host on to the container.
func (f *udpFlow) receive() {
	n := f.table.n
	if n.udp.flows[f.key] != f {
		return // closed since this was put off
	}
	if n.receiver().drain(f.fd, f, n.link.offload.Has(tap.OffloadUSO)) {
		n.loop.Defer(f.receive)
	}
}

// deliver is datagramSink's.
func (f *udpFlow) deliver(parts [][]byte, a arrival) {
	n := f.table.n
	f.down += uint64(total(parts))
	n.udp.used(f)
	n.deliverUDP(parts, n.seenAs(a.from), f.container, a)
}

// deliverUDP writes datagrams to the container.
func (n *Network) deliverUDP(parts [][]byte, from, to netip.AddrPort, a arrival) {
	h := ipHeader{src: from.Addr(), dst: to.Addr(), ttl: hop(a.ttl)}
	if a.segment == 0 || len(parts) > 1 || len(parts[0]) <= a.segment || n.link.offload.Has(tap.OffloadUSO) {
		n.emit.udp(h, from.Port(), to.Port(), a.segment, parts...)
		return
	}
	for b := parts[0]; len(b) > 0; {
		size := min(a.segment, len(b))
		n.emit.udp(h, from.Port(), to.Port(), 0, b[:size])
		b = b[size:]
	}
}

// hop is what a router leaves of a hop limit; 0 stays unknown.
func hop(ttl uint8) uint8 {
	if ttl > 1 {
		return ttl - 1
	}
	return ttl
}

// drainErrors passes the ICMP errors that the kernel noted on the socket on to
// the container, and reports whether there were any.
func (f *udpFlow) drainErrors() bool {
	n := f.table.n
	return n.drainErrors(f.fd, f.container.Addr(), func(e *socketError) {
		n.passError(e, f.container, n.seenAs(e.dst), n.seenAs(netip.AddrPortFrom(e.offender, 0)).Addr(), f.out.ttl)
	})
}

// drainErrors takes what is on a socket's error queue, gives the ICMP errors among
// it to pass, and reports whether there was any. The socket's family is that of like.
func (n *Network) drainErrors(fd int, like netip.Addr, pass func(*socketError)) bool {
	for i := range errorsPerTurn {
		e, ok := readError(fd, like)
		if !ok {
			return i > 0
		}
		if e.kind != 0 || e.code != 0 { // else the sender was told already
			pass(&e)
		}
	}
	return true
}

// passError tells the container of an ICMP error about a datagram of its own, which
// was sent with that hop limit.
func (n *Network) passError(e *socketError, container, remote netip.AddrPort, from netip.Addr, ttl uint8) {
	n.sendICMPError(icmpError{
		kind: e.kind, code: e.code, info: e.info, from: from,
		quote: ipHeader{src: container.Addr(), dst: remote.Addr(), proto: protoUDP, ttl: ttl},
		body:  quotedUDP(container.Port(), remote.Port(), len(e.body), e.body),
		size:  udpLen + len(e.body),
	})
}

// quotedUDP is the header of a datagram of size bytes of payload, and behind it as
// much of that as there is.
func quotedUDP(src, dst uint16, size int, payload []byte) []byte {
	b := make([]byte, udpLen, udpLen+len(payload))
	binary.BigEndian.PutUint16(b[0:], src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(udpLen+size))
	return append(b, payload...)
}

// seenAs says how an address of the host's side looks from the container: the
// host's loopback is behind the address that is mapped to it.
func (n *Network) seenAs(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsLoopback() {
		return a
	}
	f := n.cfg.Plan.Of(a.Addr())
	seen := f.Gateway
	for _, m := range n.cfg.HostLoopback {
		if m.Is4() == a.Addr().Is4() {
			seen = m
		}
	}
	return netip.AddrPortFrom(seen, a.Port())
}
