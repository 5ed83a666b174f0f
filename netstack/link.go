// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// headLen is how much of a frame is read into a buffer of its own. gVisor
	// keeps a reference to the buffer that holds the headers while it parses; were
	// the payload in the same buffer, parsing would copy all of it. 128 is exactly
	// one of gVisor's buffer classes, so that nothing is appended behind it.
	headLen = 128
	// frameRest is the room for what follows: with headLen more than the largest
	// frame, a 64 KiB packet and its Ethernet header.
	frameRest = 1 << 16
	// gsoMaxSize is the largest packet that gVisor may build (bytes). It makes a
	// segment of up to 65375 bytes; a larger value would leave runts behind each.
	gsoMaxSize = 1 << 16
	// maxIovecs is how many pieces of a frame go into one writev(2).
	maxIovecs = 32
)

// link is the tap's end of gVisor: a stack.LinkEndpoint that is also the NIC's
// queueing discipline, so that a packet is written by the goroutine that made it.
// It is used by the loop and by gVisor's goroutines at once.
type link struct {
	fd      int
	mtu     uint32
	offload tap.Offload
	mac     [6]byte       // ours
	peer    atomic.Uint64 // the container's hardware address, in the low 48 bits
	count   *counters
	capture atomic.Pointer[capture]
	acks    ackHolder

	dispatcher stack.NetworkDispatcher
	transport  stack.TransportDispatcher // the same, past gVisor's network layer; nil if it is none
}

var (
	_ stack.LinkEndpoint       = (*link)(nil)
	_ stack.GSOEndpoint        = (*link)(nil)
	_ stack.QueueingDiscipline = (*link)(nil)
)

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU implements stack.LinkEndpoint; the tap's MTU is the kernel's to change.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength implements stack.LinkEndpoint.
func (l *link) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return tcpip.LinkAddress(l.mac[:]) }

// SetLinkAddress implements stack.LinkEndpoint; ours is fixed by the plan.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. The tap's other end is a kernel on
// the same machine: with checksum offload its frames carry partial sums, and
// need none verified. Address resolution is left out on purpose: there is one
// peer, whose hardware address its frames tell us.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	if l.offload.Has(tap.OffloadCSum) {
		return stack.CapabilityRXChecksumOffload
	}
	return 0
}

// SupportedGSO implements stack.GSOEndpoint.
func (l *link) SupportedGSO() stack.SupportedGSO {
	switch {
	case l.offload.Has(tap.OffloadTSO4 | tap.OffloadTSO6):
		return stack.HostGSOSupported
	default:
		return stack.GVisorGSOSupported
	}
}

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return gsoMaxSize }

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.dispatcher = d
	l.transport, _ = d.(stack.TransportDispatcher)
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher != nil }

// Wait implements stack.LinkEndpoint; the link has no goroutine to wait for.
func (l *link) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (l *link) AddHeader(pkt *stack.PacketBuffer) {
	l.putEthernet(pkt.LinkHeader().Push(header.EthernetMinimumSize), uint16(pkt.NetworkProtocolNumber))
}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// Close implements stack.LinkEndpoint and stack.QueueingDiscipline; the tap is
// its owner's to close.
func (l *link) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (l *link) SetOnCloseAction(func()) {}

// WritePackets implements stack.LinkEndpoint.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	for _, pkt := range pkts.AsSlice() {
		if err := l.WritePacket(pkt); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// WritePacket implements stack.QueueingDiscipline: it writes a packet of
// gVisor's to the tap, now or at the end of the loop's turn.
func (l *link) WritePacket(pkt *stack.PacketBuffer) tcpip.Error {
	if l.acks.take(pkt) || l.writePacket(pkt) {
		return nil
	}
	return &tcpip.ErrNoBufferSpace{}
}

// writePacket writes a packet of gVisor's, as one super-frame where it is larger
// than a segment, and reports whether the kernel took it.
func (l *link) writePacket(pkt *stack.PacketBuffer) bool {
	var vh tap.VNetHdr
	if g := &pkt.GSOOptions; g.Type != stack.GSONone && g.NeedsCsum {
		vh.Flags = tap.VNetNeedsCSum
		vh.CSumStart = header.EthernetMinimumSize + g.L3HdrLen
		vh.CSumOffset = g.CsumOffset
		if pkt.Data().Size() > int(g.MSS) {
			vh.GSOType = tap.VNetGSOTCPv4
			if g.Type == stack.GSOTCPv6 {
				vh.GSOType = tap.VNetGSOTCPv6
			}
			vh.GSOSize = g.MSS
			vh.HdrLen = uint16(pkt.HeaderSize())
		}
	}
	var parts [maxIovecs - 1][]byte
	n := 0
	vl, off := pkt.AsViewList()
	for v := vl.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if off >= len(b) {
			off -= len(b)
			continue
		}
		if n == len(parts) {
			// More pieces than one system call takes; gVisor makes no such
			// packet, and a copy is what is left for one.
			flat := pkt.ToView()
			defer flat.Release()
			parts[0], n = flat.AsSlice(), 1
			break
		}
		parts[n] = b[off:]
		off = 0
		n++
	}
	return l.write(&vh, parts[:n])
}

// write writes one frame, given in pieces from the Ethernet header on, and
// reports whether the kernel took it. Any goroutine may call it.
func (l *link) write(vh *tap.VNetHdr, parts [][]byte) bool {
	var vnet [tap.VNetHdrLen]byte
	var iov [maxIovecs]unix.Iovec
	n, size := 0, 0
	if l.offload.Has(tap.OffloadVNet) {
		vh.Encode(vnet[:])
		iov[0].Base = &vnet[0]
		iov[0].SetLen(len(vnet))
		n = 1
	}
	for _, p := range parts {
		if len(p) > 0 {
			iov[n].Base = &p[0]
			iov[n].SetLen(len(p))
			size += len(p)
			n++
		}
	}
	if c := l.capture.Load(); c != nil {
		c.frame(parts)
	}
	// A tap takes a frame at once or never: it has no send queue to wait for
	// (tun_get_user in drivers/net/tun.c), so that there is no EAGAIN to handle.
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(l.fd), uintptr(unsafe.Pointer(&iov)), uintptr(n))
	runtime.KeepAlive(parts)
	if errno != 0 {
		l.count.inc(dropTapWrite)
		return false
	}
	l.count.inc(framesOut)
	l.count.add(bytesOut, uint64(size))
	return true
}

// learn notes the hardware address that the container's frames come from.
func (l *link) learn(mac []byte) {
	if v := macBits(mac); mac[0]&1 == 0 && l.peer.Load() != v {
		l.peer.Store(v)
	}
}

// putEthernet writes the header of a frame to the container into b.
func (l *link) putEthernet(b []byte, ethertype uint16) {
	v := l.peer.Load()
	_ = b[header.EthernetMinimumSize-1]
	for i := range 6 {
		b[i] = byte(v >> (40 - 8*i))
	}
	copy(b[6:], l.mac[:])
	b[12], b[13] = byte(ethertype>>8), byte(ethertype)
}

func macBits(mac net.HardwareAddr) uint64 {
	var v uint64
	for _, b := range mac[:6] {
		v = v<<8 | uint64(b)
	}
	return v
}

// rx is the room that the next frame is read into. It belongs to the loop.
type rx struct {
	vnet [tap.VNetHdrLen]byte
	head *buffer.View // headLen bytes
	data *buffer.View // frameRest bytes
	iov  [3]unix.Iovec
}

// read reads one frame and returns its length without the virtio header.
func (l *link) read(r *rx) (int, unix.Errno) {
	if r.head == nil {
		r.head = buffer.NewViewSize(headLen)
	}
	if r.data == nil {
		r.data = buffer.NewViewSize(frameRest)
	}
	iov := r.iov[:0]
	over := 0
	if l.offload.Has(tap.OffloadVNet) {
		iov = append(iov, iovec(r.vnet[:]))
		over = tap.VNetHdrLen
	}
	iov = append(iov, iovec(r.head.AsSlice()), iovec(r.data.AsSlice()))
	n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(l.fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	if errno != 0 {
		return 0, errno
	}
	return max(0, int(n)-over), 0
}

func iovec(b []byte) unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return v
}
