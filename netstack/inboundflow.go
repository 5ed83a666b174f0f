// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/netstack/splice"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// An inbound flow has the host's connection from the start, and connects to the
// container: by a socket of the container's kernel, which package splice has made
// there, or by gVisor. In either way it comes from the client's own address, and what
// the container answers comes back to us by the same rules as the rest.

// dial connects to the container.
func (f *tcpFlow) dial() {
	k := &f.table.kernel
	if !k.takesInbound(f) {
		f.dialStacked()
		return
	}
	k.include(f.key)
	fd, known, err := k.factory.Dial(f.source(), f.key.container)
	switch err {
	case nil:
	case unix.EAGAIN:
		k.hoping = append(k.hoping, f)
		return
	case unix.ECONNREFUSED:
		f.unreached(err)
		return
	default:
		f.dialStacked()
		return
	}
	f.spliced = &splicedEnd{flow: f, fd: fd}
	k.dialing[f.key] = f
	if f.spliced.token, err = f.table.n.watch(fd, known, f.spliced); err != nil {
		f.table.n.noSocket(err)
		f.unreached(err)
	}
}

// source returns where the container's end of a spliced flow comes from.
func (f *tcpFlow) source() netip.AddrPort {
	if f.by.Loopback {
		return netip.AddrPortFrom(f.key.container.Addr(), 0)
	}
	return f.key.remote
}

// reached is called with the first events of a spliced flow's container's end.
func (f *tcpFlow) reached(ev loop.Events) {
	s, n := f.spliced, f.table.n
	if ev&(loop.Error|loop.HangUp|loop.Writable) == 0 {
		return
	}
	if ev&(loop.Error|loop.HangUp) != 0 {
		if errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
			f.unreached(unix.Errno(errno))
			return
		}
	}
	k := &f.table.kernel
	delete(k.dialing, f.key)
	k.live[f.key] = f
	n.count.inc(flowsSpliced)
	s.relay.Start(&k.pool, s.fd, f.fd)
	s.relay.Note(relay.Container, ev)
	err := f.greet()
	f.opened()
	if err != nil && f.state == open {
		f.endSpliced(true)
	}
}

// greet passes on what the client has sent already: it can go with the acknowledgment
// that the service waits for.
func (f *tcpFlow) greet() error {
	r := &f.spliced.relay
	r.Note(relay.Host, loop.Readable)
	_, err := r.Move()
	if r.Moved(relay.Host) == 0 {
		splice.Greeted(f.spliced.fd)
	}
	return err
}

// dialStacked has gVisor connect to the container.
func (f *tcpFlow) dialStacked() {
	if f.by.Loopback {
		f.unreached(unix.EADDRNOTAVAIL) // nothing from the tap gets there
		return
	}
	if !f.table.kernel.exclude(f) {
		f.dialStack()
	}
}

// dialStack has gVisor send the SYN.
func (f *tcpFlow) dialStack() {
	n := f.table.n
	proto := header.IPv4ProtocolNumber
	if f.key.container.Addr().Is6() {
		proto = header.IPv6ProtocolNumber
	}
	ep, err := n.stack.NewEndpoint(tcp.ProtocolNumber, proto, &f.wq)
	if err == nil {
		f.ep = ep
		ep.SocketOptions().SetReuseAddress(true) // one client's port may go to several of the container's
		f.entry.Init(f, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventHUp|waiter.EventErr)
		f.wq.EventRegister(&f.entry)
		err = ep.Bind(fullAddress(f.key.remote))
	}
	if err == nil {
		err = ep.Connect(fullAddress(f.key.container))
	}
	if _, started := err.(*tcpip.ErrConnectStarted); err != nil && !started {
		f.unreached(unix.EADDRNOTAVAIL)
	}
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(a.Addr()), Port: a.Port()}
}

// answered is called when gVisor has news of a flow that it connects.
func (f *tcpFlow) answered() {
	if f.ep == nil {
		return // of an endpoint that was given up
	}
	switch s := tcp.EndpointState(f.ep.State()); s {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv, tcp.StateBound, tcp.StateInitial:
		return
	case tcp.StateError, tcp.StateClose:
		errno := unix.ECONNREFUSED
		if _, late := f.ep.LastError().(*tcpip.ErrTimeout); late {
			errno = unix.ETIMEDOUT
		}
		f.unreached(errno)
		return
	}
	f.canWrite = true
	f.table.admit(f)
	f.opened()
}

// opened begins to pass bytes.
func (f *tcpFlow) opened() {
	n := f.table.n
	f.connected()
	f.state, f.last = open, n.now
	var err error
	if f.token, err = n.loop.Add(f.fd, hostEvents, f); err != nil {
		n.noSocket(err)
		f.abort()
		f.table.forget(f)
		return
	}
	n.logFlow("flow open", f.info)
	if f.spliced == nil {
		f.move()
	}
}

// unreached breaks off the client's connection: nobody takes it in the container.
func (f *tcpFlow) unreached(err error) {
	t := f.table
	if err == unix.ECONNREFUSED && f.dialOther() {
		return
	}
	t.n.count.inc(connectsFailed)
	t.n.logFlow("connect failed", f.info, slog.String("err", err.Error()))
	f.abort()
	t.forget(f)
}

// dialOther tries the container's address of the other family, where nobody listens at
// the first: a client that was told "localhost" has a family which the service need not
// have. It is not tried again if the host's connection is taken.
func (f *tcpFlow) dialOther() bool {
	t := f.table
	to := f.by.other(f.key.container)
	if f.second || !to.IsValid() {
		return false
	}
	next, ok := t.nameInbound(to, f.host)
	if !ok {
		return false
	}
	f.closeDialed()
	f.ep, f.second = nil, true
	t.kernel.end(f)
	f.connected()
	delete(t.flows, f.key)
	f.key, f.container, f.remote, f.last = next, next.container, next.remote, t.n.now
	t.flows[f.key] = f
	f.connects()
	f.dial()
	return true
}

// closeDialed gives up the container's end.
func (f *tcpFlow) closeDialed() {
	if f.spliced != nil {
		f.closeSpliced(true)
		f.spliced = nil
	}
	if f.ep != nil {
		f.wq.EventUnregister(&f.entry)
		f.ep.Abort()
	}
}

// takesInbound reports whether an inbound flow may be spliced. What the container
// translates on the way is stacked: who answers there is behind another interface.
func (k *kernelPath) takesInbound(f *tcpFlow) bool {
	if k.factory == nil {
		return false
	}
	if f.by.Loopback {
		return true
	}
	a := f.key.container.Addr()
	return k.hairpin != nil && k.n.link.capture.Load() == nil && k.descriptors() < k.limit &&
		k.ways[splice.FamilyOf(a)].state == pathOpened && !k.isRouter(a)
}

// openFactory makes the factory ready, at the first port that is published.
func (k *kernelPath) openFactory() {
	if k.factory == nil || k.factoryOpen {
		return
	}
	k.factoryOpen = true
	if err := k.factory.Open(); err != nil {
		k.n.log.Info("inbound TCP may be stacked", "why", err)
	}
	for i, fd := range k.factory.Listeners() {
		if fd < 0 {
			continue
		}
		var err error
		if k.made[i], err = k.n.loop.Add(fd, loop.Readable|loop.Edge, loop.HandlerFunc(func(loop.Events) { k.hopeAgain() })); err != nil {
			k.n.log.Warn("inbound TCP may have to wait", "err", err)
		}
	}
}

// closeFactory ends the watch, and gives up what the factory has.
func (k *kernelPath) closeFactory() {
	if !k.factoryOpen {
		return
	}
	k.factory.Close()
	for i, fd := range k.factory.Listeners() {
		k.n.loop.Remove(fd, k.made[i])
	}
}

// hopeFor is how long a flow waits for a socket, in vain where the container loses the
// packets that its kernel sends itself. The tick makes it up to a second more.
const hopeFor = time.Second

// hopeAgain connects the flows for which there was no socket.
func (k *kernelPath) hopeAgain() {
	flows := k.hoping
	k.hoping = nil
	for _, f := range flows {
		switch {
		case f.state != dialing || f.spliced != nil || f.ep != nil: // ended since
		case k.n.now-f.last < hopeFor:
			f.dial()
		default:
			k.factory.GiveUp()
			f.dialStacked()
		}
	}
}

// clientGone reports whether the client of a flow that is not open yet has broken off.
func (f *tcpFlow) clientGone() bool {
	errno, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err != nil || errno != 0
}
