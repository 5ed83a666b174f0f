// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/netstack/sockaddr"
	"github.com/slipway-net/slipway/netstack/splice"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Where a container connects to one destination again and again, the socket that was the
// container's end of an earlier connection meets the application half way: bound to that
// destination for good, it connects to the application while that one's SYN waits with
// us. Both open at once (RFC 9293 §3.5), and the container's kernel is spared a SYN that
// comes in again, a request, a new socket with its file, and its end. What the
// application sees is what it sees otherwise; the rules are those by which an inbound
// connection's packets stay in the container.
//
// It is no more than a short cut. A socket that is refused, since the container's rules
// do not let such a SYN in, leaves the application's own to be turned round as ever; one
// that gets no answer leaves it to be stacked when it is sent again; and in either case
// there are no meetings for a while.

const (
	// maxMeeting is how many sockets are kept, of all destinations.
	maxMeeting = 64
	// maxRegulars is how many destinations are remembered for a tick.
	maxRegulars = 1024
	// noMeeting is how long after a meeting that failed there are none: rules that are
	// there tend to stay, and one that drops the SYN costs the application a second.
	noMeeting = time.Hour
	// lowPorts are those below, for which bind(2) wants CAP_NET_BIND_SERVICE
	// (ip_unprivileged_port_start of ip(7), as it is by default). The owner of the
	// container's user namespace has that.
	lowPorts = 1024
)

// A meetingPoint has the sockets that are bound to a destination.
type meetingPoint struct {
	fds  []int
	used bool // since the last tick
}

// meetings are the sockets kept for destinations that are regularly connected to. The
// zero value has none. They belong to the loop.
type meetings struct {
	points   map[netip.AddrPort]*meetingPoint
	kept     int                         // sockets of all points
	regulars map[netip.AddrPort]struct{} // had a connection that ended since the last tick
	never    [2]time.Duration            // until then, of IPv4 and IPv6
	high     bool                        // none for low ports, which we may not bind to
}

// take returns a socket that is bound to the destination. The loop has known it before.
func (m *meetings) take(to netip.AddrPort) (int, bool) {
	p := m.points[to]
	if p == nil || len(p.fds) == 0 {
		return -1, false
	}
	p.used = true
	m.kept--
	fd := p.fds[len(p.fds)-1]
	p.fds = p.fds[:len(p.fds)-1]
	return fd, true
}

// wants reports whether a socket that had a connection to the destination is worth being
// kept: if there was another lately.
func (m *meetings) wants(to netip.AddrPort, now time.Duration) bool {
	if m.kept >= maxMeeting || now < m.never[splice.FamilyOf(to.Addr())] || m.high && to.Port() < lowPorts {
		return false
	}
	if _, ok := m.regulars[to]; ok {
		return true
	}
	if m.regulars == nil {
		m.regulars = make(map[netip.AddrPort]struct{})
	}
	if len(m.regulars) < maxRegulars {
		m.regulars[to] = struct{}{}
	}
	return false
}

// keep keeps a socket of the container's that had a connection to the destination, and
// reports whether it did: not where that has not quite ended, which is for the kernel to
// wait for. bound says that it was kept before, and so has the port for good.
func (m *meetings) keep(fd int, to netip.AddrPort, bound bool) bool {
	if socketState(fd) != unix.BPF_TCP_CLOSE || disconnect(fd) != 0 {
		return false
	}
	if !bound {
		if err := unix.Bind(fd, sockaddr.Of(to)); err != nil {
			m.high = m.high || err == unix.EACCES
			return false
		}
	}
	if m.points == nil {
		m.points = make(map[netip.AddrPort]*meetingPoint)
	}
	p := m.points[to]
	if p == nil {
		p = &meetingPoint{used: true}
		m.points[to] = p
	}
	p.fds = append(p.fds, fd)
	m.kept++
	return true
}

// expire closes those that nobody has had a use for lately: as long as they are there,
// the container's own servers need SO_REUSEADDR to have the port.
func (m *meetings) expire() {
	clear(m.regulars)
	for to, p := range m.points {
		if !p.used {
			m.drop(to, p)
			continue
		}
		p.used = false
		m.regulars[to] = struct{}{}
	}
}

func (m *meetings) drop(to netip.AddrPort, p *meetingPoint) {
	for _, fd := range p.fds {
		closeFD(fd)
	}
	m.kept -= len(p.fds)
	delete(m.points, to)
}

// close closes all.
func (m *meetings) close() {
	for to, p := range m.points {
		m.drop(to, p)
	}
}

// failed ends meetings for a while, of the address's family.
func (m *meetings) failed(a netip.Addr, now time.Duration) {
	which := splice.FamilyOf(a)
	m.never[which] = now + noMeeting
	for to, p := range m.points {
		if splice.FamilyOf(to.Addr()) == which {
			m.drop(to, p)
		}
	}
}

// meet begins to connect a kept socket to the application, whose SYN waits, and reports
// whether there is one that can be. What came with the SYN would get lost; and to another
// address than the container's own, which its SYN may claim to be from, ours would leave.
func (f *tcpFlow) meet() bool {
	k, a := &f.table.kernel, f.key.container.Addr()
	if a != f.table.n.cfg.Plan.Of(a).Container || k.isRouter(a) || f.synHasData() {
		return false
	}
	fd, ok := k.meetings.take(f.key.remote)
	if !ok {
		return false
	}
	if errno := connectSocket(fd, f.key.container); errno != 0 && errno != unix.EINPROGRESS {
		closeFD(fd) // somebody has the name, perhaps as it is in TIME_WAIT
		return false
	}
	s := &splicedEnd{flow: f, fd: fd, bound: true}
	var err error
	if s.token, err = f.table.n.watch(fd, true, s); err != nil {
		closeFD(fd)
		return false
	}
	f.spliced = s
	return true
}

// synHasData reports whether the SYN that is kept brings more than itself.
func (f *tcpFlow) synHasData() bool {
	p, ok := parsePacket(f.syn, nil)
	return !ok || p.len() > int(header.TCP(p.l4).DataOffset())
}

// met is called with the events of a socket that meets the application.
func (f *tcpFlow) met(ev loop.Events) {
	if ev&(loop.Error|loop.HangUp|loop.Writable) == 0 {
		return
	}
	k, s := &f.table.kernel, f.spliced
	var errno int
	if ev&(loop.Error|loop.HangUp) != 0 {
		errno, _ = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	}
	if unix.Errno(errno) == unix.ECONNREFUSED {
		// By the container's rules, or the application has gone: its SYN tells.
		f.endMeeting()
		f.unmet = true
		f.writeBack()
		return
	}
	delete(k.turning, f.key)
	k.ways[splice.FamilyOf(f.key.container.Addr())].misses = 0
	f.joined(s)
	if errno != 0 {
		f.endSpliced(true) // it has met, and has been reset since
		return
	}
	s.relay.Note(relay.Container, ev)
	f.splice()
}

// hasMet reports whether the meeting is over, of which the loop has not told yet: by now
// the application may even have closed.
func (f *tcpFlow) hasMet() bool {
	switch socketState(f.spliced.fd) {
	case unix.BPF_TCP_SYN_SENT, unix.BPF_TCP_SYN_RECV:
		return false
	}
	f.met(loop.Error | loop.Readable | loop.Writable)
	return true
}

// endMeeting gives up a meeting that has not come about, if there is one, and reports
// whether there was.
func (f *tcpFlow) endMeeting() bool {
	s := f.spliced
	if s == nil {
		return false
	}
	f.spliced = nil
	f.table.n.loop.Forget(s.token)
	resetClose(s.fd)
	return true
}

// meetAgain keeps the container's end of a flow that is over for another to the same
// destination, and reports whether it did. It is as large as spareSockets want theirs.
func (f *tcpFlow) meetAgain() bool {
	s, m := f.spliced, &f.table.kernel.meetings
	if !s.relay.Done() || f.watched || f.up+f.down > spareBytes || !m.wants(f.key.remote, f.table.n.now) {
		return false
	}
	if !s.relay.First(relay.Host) {
		shutdownWrite(s.fd) // as closing it would
	}
	return m.keep(s.fd, f.key.remote, s.bound)
}
