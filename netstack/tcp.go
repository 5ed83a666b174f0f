// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/slipway-net/slipway/netstack/policy"
)

const (
	// maxConnecting is how many connects may be under way, from the SYN until both
	// the host and the container have shaken hands. A SYN above it is dropped, and sent again by the container's kernel.
	maxConnecting = 8192
	// maxConnectingPerHost is how many of them may be to one address, so that a
	// destination that does not answer cannot hold up the others.
	maxConnectingPerHost = 4096
	// maxSYN is the longest SYN that is kept until the host has connected
	// (bytes). Only data that came with it (RFC 7413) makes one that long, and we
	// hand out no cookies that would make a client send any.
	maxSYN = 2048
	// orphanTimeout is how long what is left of a closed flow may take to be delivered
	// to the container: as long as Linux gives a socket that nobody holds any more
	// (tcp_orphan_retries of tcp(7)).
	orphanTimeout = 100 * time.Second
	// maxWaiting is how many goroutines wait for a handshake to do.
	maxWaiting = 64
	// dnsPort is where the plan's resolver address answers.
	dnsPort = 53
)

// A tcpTable has the TCP flows, from the first SYN on. A SYN does not reach gVisor
// before the host's connection exists: until then it waits here, so that the
// container learns of a failure as it would from the destination itself.
type tcpTable struct {
	n          *Network
	flows      map[tuple]*tcpFlow
	guests     int                // inbound flows
	connecting int                // flows in the states connecting, turning, shaking and dialing
	arriving   int                // … inbound ones of them
	perHost    map[netip.Addr]int // … by the address dialed
	closing    []*tcpFlow         // closed by us, not yet by gVisor
	budget     budget
	pump       pump
	kernel     kernelPath
	spares     spareSockets

	mu      sync.Mutex
	shaking map[tuple]*tcpFlow // SYN given to gVisor, flow not yet accepted
	ready   []*tcpFlow         // gVisor has news of them
	drainer func()             // drain, as one value
	lines   teller             // bounds what the log gets of sockets of the host

	handshakes chan *tcp.ForwarderRequest // to a goroutine that waits for one
	waiting    atomic.Int32               // how many do
}

func (t *tcpTable) init(n *Network) {
	t.n = n
	t.flows = make(map[tuple]*tcpFlow)
	t.perHost = make(map[netip.Addr]int)
	t.shaking = make(map[tuple]*tcpFlow)
	t.handshakes = make(chan *tcp.ForwarderRequest)
	t.drainer = t.drain
	t.kernel.init(n)
}

// ingress handles a TCP packet; l3 is the packet from its IP header on, as far as
// it lies in the first buffer.
func (t *tcpTable) ingress(p *packet, l3 []byte) {
	if len(p.l4) < header.TCPMinimumSize {
		t.n.count.inc(dropMalformed)
		return
	}
	h := header.TCP(p.l4)
	if h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagSyn {
		if !wellFormedSYN(h, p.len()) {
			t.n.count.inc(dropMalformed)
			return
		}
		t.syn(p, l3, tuple{
			container: netip.AddrPortFrom(p.src, h.SourcePort()),
			remote:    netip.AddrPortFrom(p.dst, h.DestinationPort()),
		}, h.SequenceNumber())
		return
	}
	if t.kernel.busy() && t.kernel.stray(tuple{
		container: netip.AddrPortFrom(p.src, h.SourcePort()),
		remote:    netip.AddrPortFrom(p.dst, h.DestinationPort()),
	}) {
		return
	}
	t.n.deliver(p)
}

// syn handles a container's wish to connect.
func (t *tcpTable) syn(p *packet, l3 []byte, key tuple, isn uint32) {
	n := t.n
	if len(l3)+len(p.rest) > maxSYN {
		n.count.inc(dropMalformed)
		return
	}
	if t.kernel.isProbe(key, p, l3) {
		return
	}
	if f := t.flows[key]; f != nil {
		switch {
		case f.state == connecting:
			f.keepSYN(isn, l3, p.rest)
			return
		case f.state == turning:
			if f.isn == isn && f.turnedBy(maxAccepts) {
				return
			}
			f.keepSYN(isn, l3, p.rest)
			f.unturned()
			return
		case f.isn == isn && f.spliced != nil:
			return // late: the connection is there
		case f.state == shaking && f.syn != nil:
			return // it is about to be answered
		case f.isn == isn || f.state == shaking:
			n.inject(append(append([]byte(nil), l3...), p.rest...))
			return
		}
		// The port is used anew while the flow that had it before is still dying.
		f.abort()
		t.forget(f)
	}
	host, socket, service := key.remote, "", n.cfg.DNS != nil && n.isDNS(key.remote)
	if !service {
		d := n.cfg.Policy.Decide(protoTCP, key.remote)
		if d.Verdict == policy.Denied {
			n.refuse(p, d)
			return
		}
		if n.expired(p) {
			return
		}
		host, socket = d.Dial, d.Socket
	}
	if len(t.flows) >= n.cfg.MaxFlows || t.connecting >= maxConnecting || t.perHost[host.Addr()] >= maxConnectingPerHost {
		n.count.inc(dropFlowLimit)
		return
	}
	f := &tcpFlow{flow: n.newFlow(key.container, key.remote, host), socket: socket, table: t, key: key, fd: -1}
	f.keepSYN(isn, l3, p.rest)
	t.flows[key] = f
	n.count.inc(flowsTCP)
	if service {
		f.service = true
		f.shake()
		return
	}
	f.connect()
}

// forwarded is called by gVisor, on a goroutine of its own, for a SYN whose flow
// has its host connection. A goroutine that has done it before has the stack for
// it, which a new one would have to grow, twice, by copying: that costs as much as
// the SYN-ACK. So the new one hands the request to one that waits, or waits itself
// when it is done.
func (t *tcpTable) forwarded(r *tcp.ForwarderRequest) {
	select {
	case t.handshakes <- r:
		return
	default:
	}
	for r != nil {
		t.shakeHands(r)
		r = t.nextHandshake()
	}
}

// nextHandshake waits for a request; it returns nil where enough others do.
func (t *tcpTable) nextHandshake() *tcp.ForwarderRequest {
	if t.waiting.Add(1) > maxWaiting {
		t.waiting.Add(-1)
		return nil
	}
	defer t.waiting.Add(-1)
	select {
	case r := <-t.handshakes:
		return r
	case <-t.n.ctx.Done():
		return nil
	}
}

// shakeHands answers a SYN and waits until the handshake is over.
func (t *tcpTable) shakeHands(r *tcp.ForwarderRequest) {
	key := tupleOf(r.ID())
	t.mu.Lock()
	f := t.shaking[key]
	delete(t.shaking, key)
	t.mu.Unlock()
	if f == nil {
		r.Complete(true)
		return
	}
	ep, err := r.CreateEndpoint(&f.wq) // sends SYN-ACK, waits for the ACK
	r.Complete(false)
	t.n.loop.Post(func() { f.accepted(ep, err) })
}

// notify puts f on the list of flows that gVisor has news of.
func (t *tcpTable) notify(f *tcpFlow) {
	t.mu.Lock()
	first := len(t.ready) == 0
	t.ready = append(t.ready, f)
	t.mu.Unlock()
	if first {
		t.n.loop.Post(t.drainer)
	}
}

// drain moves the bytes of the flows that gVisor has news of.
func (t *tcpTable) drain() {
	t.mu.Lock()
	ready := t.ready
	t.ready = t.pump.spare[:0]
	t.mu.Unlock()
	for _, f := range ready {
		f.queued.Store(false)
		switch f.state {
		case closed:
			t.settle(f)
		case dialing:
			f.answered()
		default:
			f.move()
		}
	}
	clear(ready)
	t.pump.spare = ready
}

// linger keeps f, which is closed, until gVisor is done with it too.
func (t *tcpTable) linger(f *tcpFlow) {
	t.closing = append(t.closing, f)
	f.place = len(t.closing)
}

// settle forgets f where gVisor is done with it. It tells us when it is, and what
// it keeps of a connection is much: at 10000 connections a second, 50 MB in a tick.
func (t *tcpTable) settle(f *tcpFlow) {
	if f.place != 0 && !lives(f.ep) {
		t.forget(f)
	}
}

// forget takes f out of the table.
func (t *tcpTable) forget(f *tcpFlow) {
	if f.place != 0 {
		last := len(t.closing) - 1
		moved := t.closing[last]
		t.closing[f.place-1], moved.place = moved, f.place
		t.closing[last], f.place = nil, 0
		t.closing = t.closing[:last]
	}
	t.dismiss(f)
	t.kernel.end(f)
	if t.flows[f.key] == f {
		delete(t.flows, f.key)
		if f.by != nil {
			t.guests--
		}
	}
}

// expire forgets the closed flows that gVisor is done with too, ends those whose
// SYN it did not take, and turns keep-alives on.
func (t *tcpTable) expire() {
	t.kernel.tick()
	t.spares.expire()
	for _, f := range t.strays() {
		t.n.count.inc(dropMalformed)
		f.connected()
		f.closeHost(true)
		f.state = closed
		t.forget(f)
	}
	for _, f := range t.flows {
		if f.state == open && !f.service && !f.watched {
			f.watch()
		}
		if f.state == dialing && t.n.now-f.last >= tickEvery && f.clientGone() {
			f.unreached(unix.ECONNABORTED)
			continue
		}
		if f.state == open && f.cut && f.downDone {
			f.endCut() // nothing else tells that all is delivered
		}
	}
	for i := len(t.closing) - 1; i >= 0; i-- { // forget fills the gap from behind
		switch f := t.closing[i]; {
		case f.ep == nil || !lives(f.ep):
			t.forget(f)
		case f.state == closed && t.n.now-f.last >= orphanTimeout:
			f.abort()
			t.forget(f)
		}
	}
}

// strays takes the flows off the list of those that shake hands whose SYN gVisor
// has thrown away: it does so, without a word, with what it finds fault with, such
// as IP options. A good one it hands to forwarded within the same turn.
func (t *tcpTable) strays() []*tcpFlow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var fs []*tcpFlow
	for key, f := range t.shaking {
		if t.n.now-f.last >= tickEvery {
			delete(t.shaking, key)
			fs = append(fs, f)
		}
	}
	return fs
}

// closeAll ends every flow: what the host's kernel will take of what was sent is
// delivered, and both ends are told.
func (t *tcpTable) closeAll() {
	for _, f := range t.flows {
		if f.state == open && !f.service && f.spliced == nil {
			f.moveUp()
		}
		f.abort()
	}
	t.kernel.stop()
	t.spares.close()
	t.mu.Lock()
	clear(t.shaking)
	t.mu.Unlock()
	clear(t.flows)
	t.closing = nil
}

func (t *tcpTable) infos(fs []FlowInfo) []FlowInfo {
	for _, f := range t.flows {
		fs = append(fs, f.info())
	}
	return fs
}

// wellFormedSYN reports whether a SYN of size bytes is one that opens a
// connection: not one that ends it at once (RFC 9293 §3.10.7.2, and as Linux has
// it for FIN), and with its options in it.
func wellFormedSYN(h header.TCP, size int) bool {
	offset := int(h.DataOffset())
	return h.Flags()&(header.TCPFlagRst|header.TCPFlagFin) == 0 &&
		offset >= header.TCPMinimumSize && offset <= size
}

// lives reports whether gVisor still needs the endpoint's tuple.
func lives(ep tcpip.Endpoint) bool {
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateClose, tcp.StateError, tcp.StateInitial:
		return false
	}
	return true
}

// isDNS reports whether a is where we answer DNS.
func (n *Network) isDNS(a netip.AddrPort) bool {
	return a.Port() == dnsPort && n.cfg.Plan.Of(a.Addr()).DNS == a.Addr()
}

// serveDNS answers DNS over TCP on an accepted endpoint until the container or
// the Network closes it.
func (n *Network) serveDNS(wq *waiter.Queue, ep tcpip.Endpoint) {
	conn := gonet.NewTCPConn(wq, ep)
	n.services.Go(func() {
		defer conn.Close()
		if err := n.cfg.DNS.ServeTCP(n.ctx, conn); err != nil && !errors.Is(err, n.ctx.Err()) {
			n.log.Debug("DNS over TCP ended", "err", err)
		}
	})
}

// hostEvents are what a host socket is watched for.
const hostEvents = loop.Readable | loop.Urgent | loop.Writable | loop.ReadHangUp | loop.Edge
