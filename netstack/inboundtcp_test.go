// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// publishTCP publishes a TCP port of the host's loopback, and returns where it is.
func (r *rig) publishTCP(in Inbound) netip.AddrPort {
	r.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(r.t, err)
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	must(r.t, unix.Bind(fd, &unix.SockaddrInet4{Addr: host.As4()}))
	must(r.t, unix.Listen(fd, unix.SOMAXCONN))
	in.ID, in.FD, in.Host = 1, fd, localAddr(fd)
	in.Container = netip.AddrPortFrom(in.Container.Addr(), servicePort)
	r.net.Publish([]Inbound{in})
	r.on(func() {}) // adopted
	return in.Host
}

// serveTCP listens at the container's port that is published.
func (r *rig) serveTCP() *gonet.TCPListener {
	r.t.Helper()
	l, err := gonet.ListenTCP(r.stack, tcpip.FullAddress{NIC: nicID, Addr: tcpipAddr(r.plan.V4.Container), Port: servicePort}, ipv4.ProtocolNumber)
	must(r.t, err)
	r.t.Cleanup(func() { l.Close() })
	return l
}

// clientTCP connects to a published port.
func clientTCP(t testing.TB, host netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(host))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// cutOff connects to a published port, and fails the test unless it is reset, which the
// connect may see already.
func cutOff(t testing.TB, host netip.AddrPort) {
	t.Helper()
	c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(host))
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("client gets %v, want %v", err, unix.ECONNRESET)
	}
}

// Clients that hold all connections they can get leave some to the container.
func TestInboundFloodLeavesRoom(t *testing.T) {
	const limit = 16
	for _, tt := range []struct {
		name   string
		change func(*Network)
		want   int
	}{
		{"flows", func(n *Network) { n.cfg.MaxFlows = limit }, limit - limit/ownShare},
		{"descriptors", func(n *Network) { n.tcp.kernel.files = limit }, limit - limit/ownShare - 1}, // one is the port's
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, options{})
			r.on(func() { tt.change(r.net) })
			host := r.publishTCP(Inbound{})
			service := r.serveTCP()
			for i := range limit {
				if i >= tt.want {
					cutOff(t, host)
					continue
				}
				clientTCP(t, host)
				s, err := service.Accept()
				must(t, err)
				defer s.Close()
			}
			_, out := listen(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
			c, err := r.dial(out)
			if err != nil {
				t.Fatalf("the container connects beside %d clients: %v", tt.want, err)
			}
			c.Close()
		})
	}
}

// Clients whose connection nobody takes leave the container connects of its own.
func TestInboundFloodOfConnectsLeavesRoom(t *testing.T) {
	r := newRig(t, options{raw: true})
	host := r.publishTCP(Inbound{})
	r.on(func() {
		r.net.tcp.arriving = maxConnecting - maxConnecting/ownShare
		r.net.tcp.connecting = r.net.tcp.arriving
	})
	cutOff(t, host)
	l, dst := listen(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	r.synFrom(dst)
	c, err := l.AcceptTCP()
	must(t, err)
	c.Close()
	r.on(func() { r.net.tcp.connecting -= r.net.tcp.arriving; r.net.tcp.arriving = 0 })
}

// The books of inbound flows are empty in the end, however those end.
func TestInboundBooks(t *testing.T) {
	r := newRig(t, options{})
	host := r.publishTCP(Inbound{})
	cutOff(t, host) // nobody listens
	service := r.serveTCP()
	for i := range 20 {
		c := clientTCP(t, host)
		s, err := service.Accept()
		must(t, err)
		if i%2 == 0 {
			must(t, c.SetLinger(0))
		}
		c.Close()
		s.Close()
	}
	eventually(func() bool { return r.books() == books{} })
	r.on(func() {
		if table := &r.net.tcp; table.guests != 0 || table.arriving != 0 {
			t.Errorf("%d inbound flows and %d under way are left in the books", table.guests, table.arriving)
		}
	})
}
