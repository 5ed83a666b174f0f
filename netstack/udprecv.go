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
	// recvCmsgLen is the room for the control messages of one: segment size and
	// hop limit.
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
	data  []byte // recvBatch times recvSize
}

func newUDPReceiver() *udpReceiver {
	// An anonymous mapping is not cleared by hand, as make would have it.
	r := &udpReceiver{data: make([]byte, recvBatch*recvSize)}
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

// message returns the payload of message i, where it came from, the size of the
// datagrams in it (0 for a single one), and their hop limit (0 if unknown).
func (r *udpReceiver) message(i int) (b []byte, from netip.AddrPort, segment int, ttl uint8) {
	m := &r.msgs[i]
	b = r.data[i*recvSize:][:m.len]
	segment, ttl = parseRecvCmsgs(r.cmsgs[i][:m.hdr.Controllen])
	return b, addrPort(&r.names[i]), segment, ttl
}

// parseRecvCmsgs reads the control messages of a datagram; they come from the
// kernel.
func parseRecvCmsgs(b []byte) (segment int, ttl uint8) {
	for len(b) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil || len(data) < 4 {
			return segment, ttl
		}
		v := int(binary.NativeEndian.Uint32(data))
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO:
			segment = v
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT:
			ttl = uint8(v)
		}
		b = rest
	}
	return segment, ttl
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
	r := n.receiver()
	for range recvRounds {
		count, errno := r.receive(f.fd)
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			// The error of an earlier datagram: its details are on the error queue.
			if !f.drainErrors() {
				return
			}
			continue
		}
		for i := range count {
			b, from, segment, ttl := r.message(i)
			f.down += uint64(len(b))
			f.deliver(b, f.seenAs(from), segment, ttl)
		}
		n.udp.used(f)
	}
	n.loop.Defer(f.receive)
}

// deliver writes what came from one address to the container.
func (f *udpFlow) deliver(b []byte, from netip.AddrPort, segment int, ttl uint8) {
	n := f.table.n
	h := ipHeader{src: from.Addr(), dst: f.container.Addr(), ttl: hop(ttl)}
	if segment == 0 || len(b) <= segment || n.link.offload.Has(tap.OffloadUSO) {
		n.emit.udp(h, from.Port(), f.container.Port(), b, segment)
		return
	}
	for len(b) > 0 {
		size := min(segment, len(b))
		n.emit.udp(h, from.Port(), f.container.Port(), b[:size], 0)
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
	any := false
	for range errorsPerTurn {
		e, ok := readError(f.fd, f.container.Addr())
		if !ok {
			break
		}
		any = true
		if e.kind == 0 && e.code == 0 {
			continue // not an ICMP error: the sender was told already
		}
		quoted := make([]byte, udpLen, udpLen+len(e.body))
		remote := f.seenAs(e.dst)
		from := remote.Addr()
		if e.offender != e.dst.Addr() {
			from = f.seenAs(netip.AddrPortFrom(e.offender, 0)).Addr()
		}
		binary.BigEndian.PutUint16(quoted[0:], f.container.Port())
		binary.BigEndian.PutUint16(quoted[2:], remote.Port())
		binary.BigEndian.PutUint16(quoted[4:], uint16(udpLen+len(e.body)))
		n.sendICMPError(icmpError{
			kind: e.kind, code: e.code, info: e.info,
			from:  from,
			quote: ipHeader{src: f.container.Addr(), dst: remote.Addr(), proto: protoUDP, ttl: f.ttl},
			body:  append(quoted, e.body...),
			size:  udpLen + len(e.body),
		})
	}
	return any
}

// seenAs says how an address of the host's side looks from the container. Of several
// ports that lead to one of the host's, it is the one that was sent to last.
func (f *udpFlow) seenAs(a netip.AddrPort) netip.AddrPort {
	if a == f.host {
		return f.remote
	}
	return f.table.n.cfg.Policy.SeenAs(protoUDP, a)
}
