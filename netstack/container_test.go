// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/slipway-net/slipway/netstack/dns"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A rig is a Network whose tap is one end of a socket pair, and a container made
// of a second gVisor stack on the other end: it needs no privilege.
//
//	container stack ── link ── socket pair ── Network ── sockets of this machine
//
// The host's loopback is reached at the gateways.
type rig struct {
	t       testing.TB
	net     *Network
	plan    tap.Plan
	stack   *stack.Stack // the container's
	link    *link        // … and its interface
	log     *syncBuffer
	mu      sync.Mutex
	frames  [][]byte // what the Network wrote, if recorded
	record  bool
	arrived *sync.Cond
}

// options change a rig before it starts.
type options struct {
	offload tap.Offload
	mtu     int
	cfg     func(*Config)
	rules   []policy.Rule
	dns     []netip.AddrPort
	raw     bool // no container stack: frames are recorded
	own     bool // no container stack: the test reads the frames from the link
	quiet   bool // the log has no line for each flow
}

const offloadAll = tap.OffloadVNet | tap.OffloadCSum | tap.OffloadTSO4 | tap.OffloadTSO6 | tap.OffloadUSO

func newRig(t testing.TB, o options) *rig {
	t.Helper()
	if o.offload == 0 {
		o.offload = offloadAll
	}
	if o.mtu == 0 {
		o.mtu = 1500
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	for _, fd := range fds {
		must(t, unix.SetNonblock(fd, true))
		// As much as a user may have: what does not fit is lost, as on a wire.
		must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20))
	}
	plan, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	must(t, err)
	gateways := []netip.Addr{plan.V4.Gateway, plan.V6.Gateway}
	rules, err := policy.New(policy.Config{Plan: plan, Rules: o.rules, HostLoopback: gateways})
	must(t, err)
	r := &rig{t: t, plan: plan, log: &syncBuffer{}, record: o.raw}
	level := slog.LevelDebug
	if o.quiet {
		level = slog.LevelInfo
	}
	r.arrived = sync.NewCond(&r.mu)
	cfg := Config{
		TapFD: fds[0], Offload: o.offload, MTU: o.mtu, Plan: plan, Policy: rules, HostLoopback: gateways,
		ContainerMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1},
		Log:          slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: level})),
	}
	if o.dns != nil {
		cfg.DNS, err = dns.New(dns.Config{Upstream: o.dns})
		must(t, err)
	}
	if o.cfg != nil {
		o.cfg(&cfg)
	}
	r.net, err = New(cfg)
	must(t, err)
	r.start(fds, o)
	return r
}

// start runs the Network and the container, and ends both with the test.
func (r *rig) start(fds [2]int, o options) {
	r.link = &link{fd: fds[1], mtu: uint32(o.mtu), offload: o.offload, mac: [6]byte{2, 0, 0, 0, 0, 1}, count: &counters{}}
	r.link.peer.Store(macBits(r.plan.GatewayMAC()))
	if !o.raw && !o.own {
		r.stack = containerStack(r.t, r.link, r.plan)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.net.Run(ctx) }()
	read := make(chan struct{})
	go func() {
		defer close(read)
		if !o.own {
			r.receive()
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, ErrTapGone) {
			r.t.Errorf("Run: %v", err)
		}
		must(r.t, r.net.Close())
		unix.Shutdown(fds[1], unix.SHUT_RDWR)
		<-read
		if r.stack != nil {
			r.stack.Destroy()
		}
		unix.Close(fds[0])
		unix.Close(fds[1])
		if r.t.Failed() {
			r.t.Logf("log of the Network:\n%s", r.log.String())
		}
	})
}

// receive takes what the Network writes to the container.
func (r *rig) receive() {
	var in rx
	for {
		n, errno := r.link.read(&in)
		if errno == unix.EINTR || errno == unix.EAGAIN {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(r.link.fd), Events: unix.POLLIN}}, -1)
			continue
		}
		if errno != 0 || n <= 0 {
			return
		}
		frame := append([]byte(nil), in.head.AsSlice()[:min(n, headLen)]...)
		frame = append(frame, in.data.AsSlice()[:max(0, n-headLen)]...)
		if r.record {
			r.mu.Lock()
			r.frames = append(r.frames, frame)
			r.arrived.Broadcast()
			r.mu.Unlock()
			continue
		}
		proto := header.Ethernet(frame).Type()
		if proto != header.IPv4ProtocolNumber && proto != header.IPv6ProtocolNumber {
			continue
		}
		for _, l3 := range segmentsOf(frame, in.vnet[:]) {
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(l3)})
			r.link.dispatcher.DeliverNetworkPacket(proto, pkt)
			pkt.DecRef()
		}
	}
}

// segmentsOf returns the IP packets of a frame: a super-frame of UDP is cut up, as
// the container's kernel does it.
func segmentsOf(frame, vnet []byte) [][]byte {
	var vh tap.VNetHdr
	vh.Decode(vnet)
	p, ok := parsePacket(frame[ethernetLen:], nil)
	if !ok || vh.GSOType != tap.VNetGSOUDPL4 {
		return [][]byte{frame[ethernetLen:]}
	}
	var all [][]byte
	for payload := range slices.Chunk(p.l4[udpLen:], int(vh.GSOSize)) {
		size := udpLen + len(payload)
		h := ipHeader{src: p.src, dst: p.dst, proto: p.proto, ttl: p.ttl, tos: p.tos}
		l3 := make([]byte, p.header, p.header+size)
		if p.src.Is4() {
			putIPv4(l3, h, size, 1)
		} else {
			putIPv6(l3, h, size)
		}
		u := header.UDP(append([]byte(nil), p.l4[:udpLen]...))
		u.SetLength(uint16(size))
		all = append(all, append(append(l3, u...), payload...))
	}
	return all
}

// dial connects from the container.
func (r *rig) dial(dst netip.AddrPort) (*gonet.TCPConn, error) {
	proto := ipv4.ProtocolNumber
	if dst.Addr().Is6() {
		proto = ipv6.ProtocolNumber
	}
	return gonet.DialContextTCP(context.Background(), r.stack,
		tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(dst.Addr()), Port: dst.Port()}, proto)
}

// packet opens a datagram socket in the container, connected to dst if that is
// valid.
func (r *rig) packet(dst netip.AddrPort, v6 bool) *gonet.UDPConn {
	r.t.Helper()
	proto, local := ipv4.ProtocolNumber, r.plan.V4.Container
	if v6 {
		proto, local = ipv6.ProtocolNumber, r.plan.V6.Container
	}
	var to *tcpip.FullAddress
	if dst.IsValid() {
		to = &tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(dst.Addr()), Port: dst.Port()}
	}
	c, err := gonet.DialUDP(r.stack, &tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(local)}, to, proto)
	must(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	return c
}

// send writes a frame as the container would.
func (r *rig) send(frame []byte) {
	var vh tap.VNetHdr
	r.link.write(&vh, [][]byte{frame})
}

// next waits for a frame from the Network that ok likes, and takes it and all
// before it.
func (r *rig) next(ok func(frame []byte) bool) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for i, f := range r.frames {
			if ok(f) {
				r.frames = r.frames[i+1:]
				return f
			}
		}
		r.frames = nil
		r.arrived.Wait()
	}
}

// counter returns the value of a counter of the Network.
func (r *rig) counter(name string) uint64 {
	r.t.Helper()
	for _, c := range r.net.Counters() {
		if c.Name == name {
			return c.Value
		}
	}
	r.t.Fatalf("no counter %q", name)
	return 0
}

// settle waits until everything that was written before has been handled by the
// Network.
func (r *rig) settle() {
	done := make(chan struct{})
	r.net.loop.Post(func() {
		r.net.batch = tapBatch
		r.net.tapReady(0)
		close(done)
	})
	<-done
}

// eventually waits for a condition, by giving way to whoever is to bring it
// about. The test's own deadline bounds it.
func eventually(cond func() bool) {
	for !cond() {
		runtime.Gosched()
	}
}

// families are the two address families, as rows of a table.
func families(r *rig) map[string]struct{ gateway, loopback, dns netip.Addr } {
	return map[string]struct{ gateway, loopback, dns netip.Addr }{
		"IPv4": {r.plan.V4.Gateway, netip.MustParseAddr("127.0.0.1"), r.plan.V4.DNS},
		"IPv6": {r.plan.V6.Gateway, netip.IPv6Loopback(), r.plan.V6.DNS},
	}
}

func containerStack(t testing.TB, l *link, plan tap.Plan) *stack.Stack {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocolWithOptions(ipv6.Options{
			NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
		})},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
	})
	// A port can be used again at once, as a client may that was killed.
	wait := tcpip.TCPTimeWaitTimeoutOption(0)
	mustTCPIP(t, s.SetTransportProtocolOption(tcp.ProtocolNumber, &wait))
	mustTCPIP(t, s.CreateNICWithOptions(nicID, l, stack.NICOptions{QDisc: l}))
	for _, f := range plan.Families() {
		proto := ipv4.ProtocolNumber
		if f.Container.Is6() {
			proto = ipv6.ProtocolNumber
		}
		mustTCPIP(t, s.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol:          proto,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpipAddr(f.Container), PrefixLen: f.Prefix.Bits()},
		}, stack.AddressProperties{}))
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID, Gateway: tcpipAddr(plan.V4.Gateway)},
		{Destination: header.IPv6EmptySubnet, NIC: nicID, Gateway: tcpipAddr(plan.V6.Gateway)},
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustTCPIP(t testing.TB, err tcpip.Error) {
	t.Helper()
	if err != nil {
		t.Fatal(err.String())
	}
}

// syncBuffer is a buffer for a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = append(b.b, p...)
	return len(p), nil
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.b)
}

// errReset is what a host socket reports after a RST.
const errReset = unix.ECONNRESET

// endpoint connects from the container and returns the bare endpoint.
func (r *rig) endpoint(dst netip.AddrPort) (tcpip.Endpoint, *waiter.Queue) {
	r.t.Helper()
	wq := &waiter.Queue{}
	proto := ipv4.ProtocolNumber
	if dst.Addr().Is6() {
		proto = ipv6.ProtocolNumber
	}
	ep, terr := r.stack.NewEndpoint(tcp.ProtocolNumber, proto, wq)
	mustTCPIP(r.t, terr)
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr = ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(dst.Addr()), Port: dst.Port()})
	if _, ok := terr.(*tcpip.ErrConnectStarted); !ok {
		r.t.Fatalf("connect: %v", terr)
	}
	<-ready
	return ep, wq
}

// dialFrom connects from a given port of the container.
func (r *rig) dialFrom(port uint16, dst netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialTCPWithBind(context.Background(), r.stack,
		tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(r.plan.V4.Container), Port: port},
		tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(dst.Addr()), Port: dst.Port()}, ipv4.ProtocolNumber)
}

// synFrom sends a bare SYN to dst.
func (r *rig) synFrom(dst netip.AddrPort) {
	src := r.plan.Of(dst.Addr()).Container
	seg := make([]byte, header.TCPMinimumSize)
	header.TCP(seg).Encode(&header.TCPFields{
		SrcPort: 41000, DstPort: dst.Port(), SeqNum: 7,
		DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	r.send(frameOf(r, ipHeader{src: src, dst: dst.Addr(), proto: protoTCP, ttl: 64}, seg))
}

// frameOf makes a frame from the container.
func frameOf(r *rig, h ipHeader, body []byte) []byte {
	var b [maxHeaders]byte
	if h.dst.Is4() {
		r.link.putEthernet(b[:], uint16(header.IPv4ProtocolNumber))
		putIPv4(b[ethernetLen:], h, len(body), 1)
		return append(b[:ethernetLen+ipv4MinLen:ethernetLen+ipv4MinLen], body...)
	}
	r.link.putEthernet(b[:], uint16(header.IPv6ProtocolNumber))
	putIPv6(b[ethernetLen:], h, len(body))
	return append(b[:ethernetLen+ipv6Len:ethernetLen+ipv6Len], body...)
}
