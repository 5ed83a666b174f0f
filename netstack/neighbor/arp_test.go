// SPDX-License-Identifier: Apache-2.0

package neighbor_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-net/slipway/netstack/neighbor"
	"github.com/slipway-net/slipway/tap"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// whoHas makes an ARP request with gVisor's encoder.
func whoHas(sender, target string) []byte {
	b := make([]byte, header.ARPSize)
	a := header.ARP(b)
	a.SetIPv4OverEthernet()
	a.SetOp(header.ARPRequest)
	copy(a.HardwareAddressSender(), theirMAC)
	copy(a.ProtocolAddressSender(), net.ParseIP(sender).To4())
	copy(a.ProtocolAddressTarget(), net.ParseIP(target).To4())
	return b
}

// with returns b with one byte changed.
func with(b []byte, at int, value byte) []byte {
	c := bytes.Clone(b)
	c[at] = value
	return c
}

func TestARP(t *testing.T) {
	r := mustNew(t, neighbor.Config{Extra: []netip.Addr{netip.MustParseAddr("169.254.1.2")}})
	gateway := whoHas("10.0.2.100", "10.0.2.2")
	tests := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"gateway", gateway, true},
		{"resolver", whoHas("10.0.2.100", "10.0.2.3"), true},
		{"mapped address", whoHas("10.0.2.100", "169.254.1.2"), true},
		{"padded", append(bytes.Clone(gateway), make([]byte, 18)...), true},
		{"probe of ours", whoHas("0.0.0.0", "10.0.2.2"), true},
		{"probe of the container's own", whoHas("0.0.0.0", "10.0.2.100"), false},
		{"announcement of the container's own", whoHas("10.0.2.100", "10.0.2.100"), false},
		{"announcement of ours", whoHas("10.0.2.2", "10.0.2.2"), false},
		{"request in our name", whoHas("10.0.2.2", "10.0.2.3"), false},
		{"neighbour", whoHas("10.0.2.100", "10.0.2.50"), false},
		{"elsewhere", whoHas("10.0.2.100", "192.0.2.1"), false},
		{"empty", nil, false},
		{"cut off", gateway[:27], false},
		{"reply", with(gateway, 7, 2), false},
		{"not ethernet", with(gateway, 1, 6), false},
		{"not ipv4", with(gateway, 2, 0x86), false},
		{"long hardware addresses", with(gateway, 4, 8), false},
		{"long protocol addresses", with(gateway, 5, 16), false},
		{"multicast sender", with(gateway, 8, 1), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := bytes.Clone(tt.frame)
			reply, ok := r.ARP(tt.frame)
			if ok != tt.want {
				t.Fatalf("answered: %v, want %v", ok, tt.want)
			}
			if !bytes.Equal(tt.frame, before) {
				t.Error("the request was changed")
			}
			if !ok {
				return
			}
			q, a := header.ARP(tt.frame), header.ARP(reply)
			if !a.IsValid() || a.Op() != header.ARPReply || len(reply) != header.ARPSize {
				t.Fatalf("no valid reply: % x", reply)
			}
			if !bytes.Equal(a.HardwareAddressSender(), ourMAC) || !bytes.Equal(a.ProtocolAddressSender(), q.ProtocolAddressTarget()) ||
				!bytes.Equal(a.HardwareAddressTarget(), theirMAC) || !bytes.Equal(a.ProtocolAddressTarget(), q.ProtocolAddressSender()) {
				t.Errorf("wrong addresses in the reply: % x", reply)
			}
		})
	}
}

func TestARPWithoutIPv4(t *testing.T) {
	r := mustNew(t, neighbor.Config{Plan: mustPlan(t, "", tap.DefaultCIDR6)})
	if _, ok := r.ARP(whoHas("10.0.2.100", "10.0.2.2")); ok {
		t.Error("ARP answered without IPv4")
	}
}

func FuzzARP(f *testing.F) {
	f.Add(whoHas("10.0.2.100", "10.0.2.2"))
	f.Add(whoHas("0.0.0.0", "10.0.2.100"))
	f.Add([]byte{0, 1, 8, 0, 6, 4, 0, 1})
	r := mustNew(f, neighbor.Config{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		reply, ok := r.ARP(frame)
		if !ok {
			return
		}
		a, _ := netip.AddrFromSlice(header.ARP(reply).ProtocolAddressSender())
		if !header.ARP(frame).IsValid() || !r.Owns(a) || a == netip.MustParseAddr("10.0.2.100") {
			t.Fatalf("% x answered with % x", frame, reply)
		}
	})
}
