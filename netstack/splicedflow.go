// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// splicedEnd is what a spliced flow has more than a stacked one: the container's
// end of it, as a socket of the container's kernel, and what joins it to the host's.
type splicedEnd struct {
	flow  *tcpFlow
	fd    int
	token loop.Token
	bound bool // to the destination, for good: it meets applications (meetings)
	relay relay.Relay
}

// turn turns the flow's SYN round: the container's kernel is to shake hands with
// our listener in it.
func (f *tcpFlow) turn() {
	k := &f.table.kernel
	f.state, f.last = turning, f.table.n.now
	k.include(f.key)
	k.turning[f.key] = f
	if !f.meet() {
		f.writeBack()
	}
}

// writeBack writes the flow's SYN back into the tap.
func (f *tcpFlow) writeBack() {
	f.table.n.turnRound(f.syn, f.partial)
	// By now it has shaken hands, as a rule.
	f.table.kernel.accept(splice.FamilyOf(f.key.container.Addr()))
}

// turnedBy reports whether the flow turns out to wait to be accepted, as one of the
// next so many: then it must not be given to gVisor.
func (f *tcpFlow) turnedBy(accepts int) bool {
	if f.spliced != nil {
		return f.hasMet()
	}
	for i := 0; i < accepts && f.state == turning && f.table.kernel.accept(splice.FamilyOf(f.key.container.Addr())); i++ {
	}
	return f.state != turning
}

// unturned gives a flow to gVisor whose SYN was turned round in vain.
func (f *tcpFlow) unturned() {
	k := &f.table.kernel
	delete(k.turning, f.key)
	if f.endMeeting() {
		k.meetings.failed(f.key.remote.Addr(), f.table.n.now)
	}
	k.missed(f.key.container.Addr())
	f.shake()
}

// turned is called when the container's kernel has shaken hands; fd is what our
// listener got.
func (f *tcpFlow) turned(fd int) {
	s := &splicedEnd{flow: f, fd: fd}
	f.joined(s)
	var err error
	if s.token, err = f.table.n.loop.Add(fd, hostEvents, s); err != nil {
		f.table.n.noSocket(err)
		f.endSpliced(true)
	}
}

// joined begins to pass bytes between the host's end and the container's.
func (f *tcpFlow) joined(s *splicedEnd) {
	n := f.table.n
	f.connected()
	f.state, f.last, f.syn = open, n.now, nil
	f.spliced = s
	f.table.kernel.live[f.key] = f
	n.count.inc(flowsSpliced)
	s.relay.Start(&f.table.kernel.pool, s.fd, f.fd)
	if f.socket != "" {
		s.relay.MarkUnix(relay.Host)
	}
	s.relay.Note(relay.Host, f.early)
	n.logFlow("flow open", f.info)
}

// Ready is called by the loop with the container's end's events.
func (s *splicedEnd) Ready(ev loop.Events) {
	switch s.flow.state {
	case dialing:
		s.flow.reached(ev)
		return
	case turning:
		s.flow.met(ev)
		return
	}
	s.relay.Note(relay.Container, ev)
	s.flow.splice()
}

// splice moves bytes both ways as far as both ends let it.
func (f *tcpFlow) splice() {
	if f.state != open {
		return
	}
	if f.cut {
		f.endCut()
		return
	}
	r := &f.spliced.relay
	f.last = f.table.n.now
	more, err := r.Move()
	f.up, f.down = r.Moved(relay.Container), r.Moved(relay.Host)
	switch {
	case err == unix.EPIPE && f.socket != "":
		f.cut, f.downDone = true, true
		f.endCut()
	case err != nil:
		f.endSpliced(true)
	case r.Done():
		f.endSpliced(false)
	case more:
		f.table.n.loop.Defer(f.splice)
	default:
		for which := range f.table.n.throttles {
			if r.Dry(which) {
				f.table.n.throttles[which].wait(f, which)
			}
		}
	}
}

// endSpliced closes both ends, with a RST to both peers if so wished. What a peer has
// not read yet is the kernel's to deliver.
func (f *tcpFlow) endSpliced(reset bool) {
	msg := "flow closed"
	if reset {
		msg = "flow reset"
	}
	f.table.n.logFlow(msg, f.info)
	f.closeSpliced(reset)
	f.closeHost(reset)
	f.state, f.last = closed, f.table.n.now
	f.table.forget(f)
}

// abortSpliced closes both ends where they are: one that was told that its peer
// sends no more keeps what it has not read yet.
func (f *tcpFlow) abortSpliced() {
	r := &f.spliced.relay
	toHost, toContainer := r.Ended(relay.Container), r.Ended(relay.Host)
	f.closeSpliced(!toContainer)
	f.closeHost(!toHost)
}

// closeSpliced closes the container's end.
func (f *tcpFlow) closeSpliced(reset bool) {
	s, k := f.spliced, &f.table.kernel
	s.relay.Stop()
	leave(f.table.n.loop, s.fd, s.token, reset, f.reuse)
	s.fd, s.token = -1, 0
	delete(k.live, f.key)
	delete(k.dialing, f.key)
}

// reuse keeps the container's end of a flow that is over for another.
func (f *tcpFlow) reuse() bool {
	if f.by == nil {
		return f.meetAgain()
	}
	if !f.spliced.relay.First(relay.Host) {
		shutdownWrite(f.spliced.fd) // as closing it would
	}
	return f.table.kernel.factory.GiveBack(f.spliced.fd, f.source())
}

// leave ends a flow's use of a socket, with a RST to its peer if so wished. Otherwise
// kept may take it over, and it stays open and with the loop, for another flow.
func leave(l *loop.Loop, fd int, t loop.Token, reset bool, kept func() bool) {
	if !reset && kept() {
		l.Park(fd, t)
		return
	}
	l.Forget(t)
	if reset {
		resetClose(fd)
	} else {
		closeFD(fd)
	}
}

// resetClose closes a socket with a RST to its peer.
func resetClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	closeFD(fd)
}

// partial reports whether the checksum of the packet that was just read is left
// to the reader.
func (n *Network) partial() bool {
	var vh tap.VNetHdr
	if n.link.offload.Has(tap.OffloadVNet) {
		vh.Decode(n.rx.vnet[:])
	}
	return partialChecksum(&vh)
}

// turnRound writes a packet of the container's, from its IP header on, back into
// the tap.
func (n *Network) turnRound(l3 []byte, partial bool) {
	p, ok := parsePacket(l3, nil)
	if !ok {
		return // it was read as one
	}
	ethertype := uint16(header.IPv6ProtocolNumber)
	if p.src.Is4() {
		ethertype = uint16(header.IPv4ProtocolNumber)
	}
	e := &n.emit
	e.link.putEthernet(e.buf[:], ethertype)
	e.parts[0], e.parts[1] = e.buf[:ethernetLen], l3
	var vh tap.VNetHdr
	if partial {
		vh = tap.VNetHdr{Flags: tap.VNetNeedsCSum, CSumStart: uint16(ethernetLen + p.header), CSumOffset: header.TCPChecksumOffset}
	}
	e.link.write(&vh, e.parts[:2])
}
