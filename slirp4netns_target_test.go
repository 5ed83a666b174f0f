// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	wire "encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// targetScenarios are about targets that are no namespace.
func targetScenarios() []scenario {
	return []scenario{
		{name: "BESS: ARP", observe: func(t *testing.T, s subject) string {
			return hex.EncodeToString(startBESS(t, s).arp(t, "10.0.2.2"))
		}},
		{
			name: "BESS: ARP for the resolver", intended: "all addresses of the network itself have the gateway's hardware address",
			theirs: "52550a000203", ours: "52550a000202",
			observe: func(t *testing.T, s subject) string {
				const source, mac = 16, 6 // behind Ethernet's source and type
				return hex.EncodeToString(startBESS(t, s).arp(t, "10.0.2.3")[source : source+mac])
			},
		},
		{
			name: "BESS: DHCP", intended: "DHCP offers 10.0.2.100 first, and then those from 10.0.2.15 to 10.0.2.30",
			theirs:  "offered 10.0.2.15 1=[255 255 255 0] 3=[10 0 2 2] 51=[0 1 81 128] 53=[2] 54=[10 0 2 2] 6=[10 0 2 3]",
			ours:    "offered 10.0.2.100 1=[255 255 255 0] 3=[10 0 2 2] 51=[0 1 81 128] 53=[2] 54=[10 0 2 2] 6=[10 0 2 3]",
			observe: func(t *testing.T, s subject) string { return startBESS(t, s).discover(t) },
		},
		{
			name: "BESS: end of the client", intended: "ends when the client of a BESS socket leaves",
			theirs: "goes on", ours: "exit status 0",
			observe: func(t *testing.T, s subject) string {
				b := startBESS(t, s)
				b.c.Close()
				if s.ours {
					return b.h.end(t, 0)
				}
				select {
				case <-b.h.ended:
					return "ended"
				case <-time.After(silence):
					return "goes on"
				}
			},
		},
		{
			name: "BESS: the socket", intended: "the BESS socket is removed when its client has come",
			theirs: "there", ours: "gone",
			observe: func(t *testing.T, s subject) string {
				b := startBESS(t, s)
				b.arp(t, "10.0.2.2")
				return exists(b.path)
			},
		},
	}
}

// A bess is a client at a subject's BESS socket.
type bess struct {
	h    *slirp
	c    *net.UnixConn
	path string
	mac  net.HardwareAddr
}

func startBESS(t *testing.T, s subject) *bess {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bess")
	r, w := pipe(t)
	h := s.launch(t, nil, []*os.File{w}, "--target-type=bess", "-r", "3", path)
	w.Close()
	h.stderr.wait(t, "Waiting for connection to "+path)
	b := &bess{h: h, path: path, mac: net.HardwareAddr{2, 0, 0, 0, 0, 0x42}}
	// The line is written before it listens.
	for end := time.Now().Add(attachtest.Patience); b.c == nil; {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err == nil {
			b.c = c
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { b.c.Close() })
	if err := b.c.SetDeadline(time.Now().Add(attachtest.Patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2)
	if n, err := r.Read(buf); err != nil || string(buf[:n]) != "1" {
		t.Fatalf("the ready descriptor gave %q, error %v", buf[:n], err)
	}
	return b
}

// frame sends a frame and returns the first one that answers it.
func (b *bess) frame(t *testing.T, out []byte, answers func([]byte) bool) []byte {
	t.Helper()
	if _, err := b.c.Write(out); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for {
		n, err := b.c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if answers(buf[:n]) {
			return buf[:n]
		}
	}
}

// Offsets in an Ethernet frame.
const (
	etherLen = 14
	ipLen    = 20
	udpLen   = 8
)

func (b *bess) ethernet(ethertype uint16) []byte {
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, b.mac...)
	return wire.BigEndian.AppendUint16(f, ethertype)
}

// arp asks who has an address and returns the answer, from Ethernet's source on.
func (b *bess) arp(t *testing.T, addr string) []byte {
	t.Helper()
	const etherARP, arpLen = 0x0806, 28
	a := netip.MustParseAddr(addr).As4()
	f := append(b.ethernet(etherARP), 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, a request
	f = append(f, b.mac...)
	f = append(f, 10, 0, 2, 100, 0, 0, 0, 0, 0, 0)
	f = append(f, a[:]...)
	got := b.frame(t, f, func(f []byte) bool {
		return len(f) >= etherLen+arpLen && wire.BigEndian.Uint16(f[12:]) == etherARP && f[21] == 2
	})
	return append([]byte(nil), got[6:etherLen+arpLen]...)
}

// discover asks for a lease (RFC 2131) and returns what is offered.
func (b *bess) discover(t *testing.T) string {
	t.Helper()
	const etherIP, bootpLen = 0x0800, 236
	msg := make([]byte, bootpLen)
	copy(msg, []byte{1, 1, 6, 0, 1, 2, 3, 4}) // a request by Ethernet, with an ID
	copy(msg[28:], b.mac)
	msg = append(msg, 99, 130, 83, 99, 53, 1, 1, 55, 3, 1, 3, 6, 255) // the magic, DISCOVER, what we want
	ip := make([]byte, ipLen)
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	wire.BigEndian.PutUint16(ip[2:], uint16(ipLen+udpLen+len(msg)))
	copy(ip[16:], []byte{255, 255, 255, 255})
	sum := uint32(0)
	for i := 0; i < ipLen; i += 2 {
		sum += uint32(wire.BigEndian.Uint16(ip[i:]))
	}
	wire.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	f := append(b.ethernet(etherIP), ip...)
	f = append(f, 0, 68, 0, 67)
	f = wire.BigEndian.AppendUint16(f, uint16(udpLen+len(msg)))
	f = append(f, 0, 0) // no checksum
	const at = etherLen + ipLen + udpLen
	got := b.frame(t, append(f, msg...), func(f []byte) bool {
		return len(f) > at+bootpLen+4 && f[23] == unix.IPPROTO_UDP && wire.BigEndian.Uint16(f[etherLen+ipLen+2:]) == 68
	})
	return offer(got[at:], bootpLen+4)
}

// offer is what matters of a DHCP message.
func offer(msg []byte, options int) string {
	var found []string
	for o := msg[options:]; len(o) > 2 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		size := int(o[1])
		switch o[0] {
		case 1, 3, 6, 51, 53, 54: // mask, router, resolver, lease, type, server
			found = append(found, fmt.Sprintf("%d=%d", o[0], o[2:2+size]))
		}
		o = o[2+size:]
	}
	slices.Sort(found) // they have no order
	return fmt.Sprint("offered ", netip.AddrFrom4([4]byte(msg[16:20])), " ", strings.Join(found, " "))
}

// TestSlirp4netnsTapFD hands over an open tap: the installed slirp4netns may be too
// old to compare with.
func TestSlirp4netnsTapFD(t *testing.T) {
	w, c := attachtest.Open(t), attachtest.NewContainer(t)
	plan, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.Prefix{})
	if err != nil {
		t.Fatal(err)
	}
	for _, offload := range []tap.Offload{0, tap.OffloadNone} {
		d, err := tap.Open(tap.Config{Target: tap.Target{PID: c.PID()}, Configure: true, Plan: plan, MTU: 9000, Offload: offload})
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.FcntlInt(uintptr(d.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "tap")
		s := subject{true, oursAs(t, "slirp4netns")}
		h := s.start(t, c, []*os.File{file}, "--netns-type=tapfd", "--mtu=9000", "4")
		file.Close()
		d.Close()
		tcp, udp := greet(t, w.Peer, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 0))
		for network, to := range map[string]netip.AddrPort{"tcp": tcp, "udp": udp} {
			if got := visit(t, c, network, to); got != "10.97.0.1" {
				t.Errorf("offload %v, %s: %s", offload, network, got)
			}
		}
		// It has the only copy, and is told when the interface is gone.
		c.Exec(t, "ip", "link", "del", "tap0")
		if got := h.end(t, 0); got != "exit status 0" {
			t.Errorf("without the interface: %s", got)
		}
	}
}
