// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// books is what a tcpTable keeps account of.
type books struct{ Flows, Shaking, Closing, Connecting, PerHost, Shares int }

// on runs f on the loop of the Network.
func (r *rig) on(f func()) {
	done := make(chan struct{})
	r.net.loop.Post(func() { f(); close(done) })
	<-done
}

func (r *rig) books() (b books) {
	r.on(func() {
		t := &r.net.tcp
		t.expire()
		t.mu.Lock()
		defer t.mu.Unlock()
		b = books{len(t.flows), len(t.shaking), len(t.closing), t.connecting, len(t.perHost), t.budget.open}
	})
	return b
}

// segment makes a frame with a bare TCP segment from the container.
func (r *rig) segment(dst netip.AddrPort, port uint16, flags header.TCPFlags, offset uint8) []byte {
	seg := make([]byte, header.TCPMinimumSize)
	header.TCP(seg).Encode(&header.TCPFields{
		SrcPort: port, DstPort: dst.Port(), SeqNum: uint32(port), AckNum: 1,
		DataOffset: offset, Flags: flags, WindowSize: 65535,
	})
	return frameOf(r, ipHeader{src: r.plan.Of(dst.Addr()).Container, dst: dst.Addr(), proto: protoTCP, ttl: 64}, seg)
}

func TestBadSYNLeavesNothing(t *testing.T) {
	r := newRig(t, options{raw: true})
	for family, f := range families(r) {
		t.Run(family, func(t *testing.T) {
			_, dst := listen(t, f.loopback, f.gateway)
			before := r.counter("flows_tcp")
			for _, seg := range [][]byte{
				r.segment(dst, 1, header.TCPFlagSyn, 0),
				r.segment(dst, 2, header.TCPFlagSyn, 16),
				r.segment(dst, 3, header.TCPFlagSyn, 60),
				r.segment(dst, 4, header.TCPFlagSyn|header.TCPFlagRst, 20),
				r.segment(dst, 5, header.TCPFlagSyn|header.TCPFlagFin, 20),
			} {
				r.send(seg)
			}
			r.settle()
			if got := r.counter("flows_tcp") - before; got != 0 {
				t.Errorf("%d flows were opened by SYNs that cannot open one", got)
			}
		})
	}
}

// gVisor throws away a SYN in a packet whose IP options are not to its taste. The
// host's connection must not wait for it.
func TestSYNThatGVisorDropsIsForgotten(t *testing.T) {
	r := newRig(t, options{raw: true})
	l, dst := listen(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	frame := r.segment(dst, 1, header.TCPFlagSyn, header.TCPMinimumSize)
	const optionsLen, badPointer = 4, 0
	ip := header.IPv4(append([]byte(nil), frame[ethernetLen:ethernetLen+ipv4MinLen]...))
	ip = append(ip, byte(header.IPv4OptionRecordRouteType), 3, badPointer, 0)
	ip.SetHeaderLength(ipv4MinLen + optionsLen)
	ip.SetTotalLength(ipv4MinLen + optionsLen + header.TCPMinimumSize)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	r.send(append(append(append([]byte(nil), frame[:ethernetLen]...), ip...), frame[ethernetLen+ipv4MinLen:]...))
	outside, err := l.AcceptTCP()
	must(t, err)
	defer outside.Close()
	if _, err := outside.Read(make([]byte, 1)); err == nil {
		t.Error("the host's connection got data")
	}
	if got := r.books(); got != (books{}) {
		t.Errorf("left in the books: %+v", got)
	}
}

func TestSegmentsOfEveryKindLeaveNothing(t *testing.T) {
	r := newRig(t, options{raw: true})
	l, dst := listen(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	const allFlags = 1 << 8
	for round := range 4 {
		for flags := range allFlags {
			frame := r.segment(dst, uint16(1000+flags), header.TCPFlags(flags), header.TCPMinimumSize)
			header.TCP(frame[ethernetLen+ipv4MinLen:]).SetSequenceNumber(uint32(round * flags))
			r.send(frame)
		}
		r.settle()
	}
	b := r.books()
	if b.Connecting != 0 && b.PerHost == 0 || b.Connecting == 0 && b.PerHost != 0 {
		t.Errorf("the books contradict each other: %+v", b)
	}
}

func TestBooksAreEmptyInTheEnd(t *testing.T) {
	r := newRig(t, options{})
	l, dst := listen(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	l2, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	closedPort := netip.AddrPortFrom(dst.Addr(), uint16(l2.Addr().(*net.TCPAddr).Port))
	l2.Close()
	const flows = 100
	for i := range flows {
		if i%5 == 0 {
			if _, err := r.dial(closedPort); err == nil {
				t.Fatal("connected to a closed port")
			}
			continue
		}
		ep, _ := r.endpoint(dst)
		outside, err := l.AcceptTCP()
		must(t, err)
		switch i % 5 {
		case 1:
			ep.Abort()
			io.Copy(io.Discard, outside)
			outside.Close()
		case 2:
			must(t, outside.SetLinger(0))
			outside.Write(random(100 << 10))
			outside.Close()
			ep.Abort()
		case 3:
			outside.Close()
			ep.Close()
		case 4:
			outside.Write(random(100 << 10)) // never read
			ep.Close()
			outside.Close()
			ep.Abort()
		}
	}
	eventually(func() bool { return r.books() == books{} })
}

// The bytes that gVisor may hold are shared.
func TestBudgetShrinksAndGrows(t *testing.T) {
	var b budget
	const connections = DefaultMaxFlows
	total := 0
	share := b.bytes()
	for range connections {
		b.enter()
		if b.bytes() < share {
			share = b.bytes()
		}
		total = b.open * b.bytes()
		if share > bufferMin && total > bufferBudget {
			t.Fatalf("%d connections may hold %d bytes, want at most %d", b.open, total, bufferBudget)
		}
	}
	if b.bytes() != bufferMin || !b.scarce() {
		t.Errorf("share of %d connections is %d, want %d", connections, b.bytes(), bufferMin)
	}
	for range connections {
		b.leave()
	}
	if b.bytes() != bufferMax || b.scarce() {
		t.Errorf("share of no connection is %d, want %d", b.bytes(), bufferMax)
	}
}

func TestUrgentDataArrivesInLine(t *testing.T) {
	r := newRig(t, options{})
	inside, outside := connect(t, r, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	raw, err := outside.SyscallConn()
	must(t, err)
	outside.Write([]byte("ab"))
	must(t, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
	must(t, err)
	outside.Write([]byte("cd"))
	outside.Close()
	if got, err := io.ReadAll(inside); string(got) != "ab!cd" {
		t.Errorf("container read %q, %v; want %q", got, err, "ab!cd")
	}
}

// A mapping that began with the host's loopback must not carry traffic past the
// address that flows are to leave from.
func TestUDPSocketsStayBound(t *testing.T) {
	r := newRig(t, options{cfg: func(c *Config) { c.Outbound.Addr4 = netip.MustParseAddr("127.0.0.2") }})
	local, addr := listenUDP(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	inside := r.packet(netip.AddrPort{}, false)
	_, err := inside.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(addr))
	must(t, err)
	_, _, err = local.ReadFromUDPAddrPort(make([]byte, 8))
	must(t, err)
	// Nobody need be there: the socket is what counts.
	_, err = inside.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9})
	must(t, err)
	eventually(func() bool { return r.counter("flows_udp") == 2 })
	r.on(func() {
		for key, f := range r.net.udp.flows {
			sa, err := unix.Getsockname(f.fd)
			must(t, err)
			want := [4]byte{}
			if key.bound {
				want = [4]byte{127, 0, 0, 2}
			}
			if got := sa.(*unix.SockaddrInet4).Addr; key.bound && got != want {
				t.Errorf("socket to %v is bound to %v, want %v", f.host, got, want)
			}
			if key.bound == f.host.Addr().IsLoopback() {
				t.Errorf("mapping to %v: bound is %v", f.host, key.bound)
			}
		}
	})
}

// The error of an earlier datagram says nothing about super-datagrams.
func TestUDPErrorOfEarlierDatagramKeepsGSO(t *testing.T) {
	r := newRig(t, options{raw: true})
	tests := []struct {
		name string
		err  unix.Errno
		want int
	}{
		{"refused", unix.ECONNREFUSED, maxDatagram},
		{"longer than the MTU", unix.EINVAL, 99},
		{"no checksum offload", unix.EIO, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.on(func() {
				f := &udpFlow{table: &r.net.udp, mapping: mapping{fd: -1}}
				f.out = outlet{owner: f, fd: -1, gsoMax: maxDatagram}
				f.container = netip.AddrPortFrom(r.plan.V4.Container, 1)
				s := &udpSender{n: r.net, fd: -1, arena: make([]byte, 200)}
				dst := netip.MustParseAddrPort("192.0.2.1:9")
				s.runs[0] = run{out: &f.out, dst: dst, size: 200, segment: 100, count: 2}
				s.failed(0, tt.err)
				if f.out.gsoMax != tt.want {
					t.Errorf("longest datagram of super-datagrams is %d, want %d", f.out.gsoMax, tt.want)
				}
			})
		})
	}
}

func TestEvictionsAreBounded(t *testing.T) {
	r := newRig(t, options{raw: true, cfg: func(c *Config) { c.MaxFlows = 1 }})
	r.on(func() {
		n := r.net
		n.evictions = maxEvictions - 1
		dst := netip.MustParseAddrPort("127.0.0.1:9")
		for port := range uint16(4) {
			n.udp.open(udpKey{container: netip.AddrPortFrom(r.plan.V4.Container, port+1)}, dst, dst)
		}
		// One fills the table, one takes its place, two find no room.
		if f := n.udp.flows[udpKey{container: netip.AddrPortFrom(r.plan.V4.Container, 2)}]; len(n.udp.flows) != 1 || f == nil {
			t.Errorf("%d mappings, want that of the second port only", len(n.udp.flows))
		}
		n.expire()
		if !n.evict() {
			t.Error("no eviction in the next tick")
		}
	})
	if got := r.counter("drop_flow_limit"); got != 2 {
		t.Errorf("%d datagrams found no room, want 2", got)
	}
}

// What the container was told has arrived is not taken back at the end.
func TestEndDeliversWhatWasFinished(t *testing.T) {
	r := newRig(t, options{})
	l, addr := listen(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	raw, err := l.SyscallConn()
	must(t, err)
	// The receiver has room for little, so that most stays with the sender.
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }))
	must(t, err)
	inside, err := r.dial(addr)
	must(t, err)
	defer inside.Close()
	outside, err := l.AcceptTCP()
	must(t, err)
	defer outside.Close()
	want := random(100 << 10)
	_, err = inside.Write(want)
	must(t, err)
	must(t, inside.CloseWrite())
	eventually(func() (done bool) {
		r.on(func() {
			for _, f := range r.net.tcp.flows {
				done = f.upDone
			}
		})
		return done
	})
	r.on(r.net.tcp.closeAll)
	got, err := io.ReadAll(outside)
	if err != nil || len(got) != len(want) {
		t.Errorf("host got %d bytes, %v; want %d and the end", len(got), err, len(want))
	}
}

// A sender of single bytes, whose reader in the container has stopped, must not
// make us keep an account of each.
func TestShortWritesWaitInTheHost(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	inside, outside := connect(t, r, f.loopback, f.gateway)
	buffer := func() (size int64) {
		r.on(func() {
			for _, f := range r.net.tcp.flows {
				if f.state == open {
					size = f.ep.SocketOptions().GetSendBufferSize()
				}
			}
		})
		return size
	}
	eventually(func() bool { return buffer() == bufferMax })
	var b [1]byte
	eventually(func() bool { // the host's kernel may put some together
		outside.Write(b[:])
		_, err := io.ReadFull(inside, b[:])
		must(t, err)
		return buffer() == shortBuffer
	})
	long := random(100 << 10)
	go outside.Write(long)
	_, err := io.ReadFull(inside, make([]byte, len(long)))
	must(t, err)
	if got := buffer(); got != bufferMax {
		t.Errorf("a flow of long writes buffers %d bytes, want %d", got, bufferMax)
	}
}

// What is left of a closed flow must not wait for ever for a container that has
// stopped reading.
func TestOrphansEnd(t *testing.T) {
	r := newRig(t, options{})
	f := families(r)["IPv4"]
	_, outside := connect(t, r, f.loopback, f.gateway)
	go func() { outside.Write(random(16 << 20)); outside.Close() }()
	closed := func() (n int) {
		r.on(func() { n = len(r.net.tcp.closing) })
		return n
	}
	eventually(func() (finished bool) {
		r.on(func() {
			for _, f := range r.net.tcp.flows {
				// More than the container's stack takes without a reader.
				if finished = f.state == open && f.down > bufferMax/2; finished {
					f.finish() // as if both ends had sent their FIN
				}
			}
		})
		return finished
	})
	if got := closed(); got != 1 {
		t.Fatalf("%d closed flows wait, want 1", got)
	}
	r.on(func() { r.net.start = time.Now().Add(-orphanTimeout - time.Minute) })
	r.on(r.net.expire)
	if got := closed(); got != 0 {
		t.Errorf("%d closed flows wait after %v, want none", got, orphanTimeout)
	}
}
