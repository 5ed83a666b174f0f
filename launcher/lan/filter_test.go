// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

var (
	testSubnets = []netip.Prefix{netip.MustParsePrefix("10.89.0.0/24"), netip.MustParsePrefix("fd12::/64")}
	testStation = station(testSubnets, 7)
	otherOne    = station(testSubnets, 8)
)

// ether puts the body into a frame of the station's.
func ether(s Station, kind uint16, body ...[]byte) []byte {
	b := slices.Concat(otherOne.MAC, s.MAC, binary.BigEndian.AppendUint16(nil, kind))
	return slices.Concat(b, slices.Concat(body...))
}

func ip4(from netip.Addr, proto byte) []byte {
	b := make([]byte, ip4Len)
	b[0], b[ip4ProtoAt] = 0x45, proto
	copy(b[ip4SourceAt:], from.AsSlice())
	return b
}

func ip6(from netip.Addr, next byte) []byte {
	b := make([]byte, ip6Len)
	b[0], b[ip6NextAt] = 0x60, next
	copy(b[ip6SourceAt:], from.AsSlice())
	return b
}

func arp(s Station, sender netip.Addr) []byte {
	b := make([]byte, arpLen)
	copy(b, arpHead)
	copy(b[arpSenderAt:], s.MAC)
	copy(b[arpAddrAt:], sender.AsSlice())
	return b
}

func advert(target netip.Addr) []byte {
	b := make([]byte, ndMinLen)
	b[0] = neighborAdvert
	copy(b[ndTargetAt:], target.AsSlice())
	return b
}

func solicit(target netip.Addr) []byte {
	b := advert(target)
	b[0] = neighborSolicit
	return b
}

func TestAdmit(t *testing.T) {
	own4, own6 := testStation.Addrs[0].Addr(), testStation.Addrs[1].Addr()
	other4, other6 := otherOne.Addrs[0].Addr(), otherOne.Addrs[1].Addr()
	local, none4, none6 := testStation.linkLocal(), netip.IPv4Unspecified(), netip.IPv6Unspecified()
	sum := func(at, offset int) tap.VNetHdr {
		return tap.VNetHdr{Flags: tap.VNetNeedsCSum, CSumStart: uint16(at), CSumOffset: uint16(offset)}
	}
	ext := func(next byte) []byte { return []byte{next, 0, 0, 0, 0, 0, 0, 0} }
	var plain tap.VNetHdr
	const tcp, udp, icmp6 = unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMPV6
	for _, tt := range []struct {
		name  string
		h     tap.VNetHdr
		frame []byte
		want  bool
	}{
		{"IPv4", plain, ether(testStation, unix.ETH_P_IP, ip4(own4, tcp)), true},
		{"IPv4 with a checksum to fill in", sum(34, 16), ether(testStation, unix.ETH_P_IP, ip4(own4, tcp)), true},
		{"checksum in the source address", sum(14, 12), ether(testStation, unix.ETH_P_IP, ip4(own4, tcp)), false},
		{"checksum of UDP as TCP's", sum(34, 16), ether(testStation, unix.ETH_P_IP, ip4(own4, udp)), false},
		{"checksum of ICMP", sum(34, 2), ether(testStation, unix.ETH_P_IP, ip4(own4, unix.IPPROTO_ICMP)), false},
		{"IPv4 of another", plain, ether(testStation, unix.ETH_P_IP, ip4(other4, tcp)), false},
		{"IPv4 of nobody", plain, ether(testStation, unix.ETH_P_IP, ip4(none4, udp)), false},
		{"hardware address of another", plain, ether(otherOne, unix.ETH_P_IP, ip4(own4, tcp)), false},
		{"IPv4 cut", plain, ether(testStation, unix.ETH_P_IP, ip4(own4, tcp)[:19]), false},
		{"IPv6 as IPv4", plain, ether(testStation, unix.ETH_P_IP, ip6(own6, tcp)), false},
		{"IPv6", sum(54, 6), ether(testStation, unix.ETH_P_IPV6, ip6(own6, udp)), true},
		{"IPv6 of another", plain, ether(testStation, unix.ETH_P_IPV6, ip6(other6, udp)), false},
		{"link-local", plain, ether(testStation, unix.ETH_P_IPV6, ip6(local, udp)), true},
		{"IPv6 with options", sum(62, 16), ether(testStation, unix.ETH_P_IPV6, ip6(own6, unix.IPPROTO_DSTOPTS), ext(tcp)), true},
		{"IPv6 with too many", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, 0), make([]byte, 20*8)), false},
		{"IPv6 with options cut", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, 0), ext(tcp)[:7]), false},
		{"fragment of UDP", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, unix.IPPROTO_FRAGMENT), ext(udp)), true},
		{"fragment of ICMPv6", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, unix.IPPROTO_FRAGMENT), ext(icmp6), advert(own6)), false},
		{"advertisement of itself", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, icmp6), advert(own6)), true},
		{"advertisement of another", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, icmp6), advert(other6)), false},
		{"… behind options", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, 0), ext(icmp6), advert(other6)), false},
		{"… cut", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, icmp6), advert(own6)[:23]), false},
		{"router", plain, ether(testStation, unix.ETH_P_IPV6, ip6(local, icmp6), []byte{routerAdvert, 0, 0, 0}), false},
		{"redirect", plain, ether(testStation, unix.ETH_P_IPV6, ip6(local, icmp6), []byte{redirect, 0, 0, 0}), false},
		{"link-local of another", plain, ether(testStation, unix.ETH_P_IPV6, ip6(otherOne.linkLocal(), udp)), false},
		{"advertisement of another's link-local", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, icmp6), advert(otherOne.linkLocal())), false},
		{"question for another", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, icmp6), solicit(other6)), true},
		{"probe of its own", plain, ether(testStation, unix.ETH_P_IPV6, ip6(none6, icmp6), solicit(local)), true},
		{"probe of another", plain, ether(testStation, unix.ETH_P_IPV6, ip6(none6, icmp6), solicit(other6)), false},
		{"multicast report from nowhere", plain, ether(testStation, unix.ETH_P_IPV6, ip6(none6, icmp6), []byte{listenerReport2}), true},
		{"UDP from nowhere", plain, ether(testStation, unix.ETH_P_IPV6, ip6(none6, udp)), false},
		{"echo from nowhere", plain, ether(testStation, unix.ETH_P_IPV6, ip6(none6, icmp6), []byte{128}), false},
		{"ICMPv6 of nothing", plain, ether(testStation, unix.ETH_P_IPV6, ip6(own6, icmp6)), false},
		{"ARP", plain, ether(testStation, unix.ETH_P_ARP, arp(testStation, own4)), true},
		{"ARP probe", plain, ether(testStation, unix.ETH_P_ARP, arp(testStation, none4)), true},
		{"ARP of another address", plain, ether(testStation, unix.ETH_P_ARP, arp(testStation, other4)), false},
		{"ARP of another station", plain, ether(testStation, unix.ETH_P_ARP, arp(otherOne, own4)), false},
		{"ARP with a checksum to fill in", sum(22, 6), ether(testStation, unix.ETH_P_ARP, arp(testStation, own4)), false},
		{"ARP cut", plain, ether(testStation, unix.ETH_P_ARP, arp(testStation, own4)[:27]), false},
		{"VLAN", plain, ether(testStation, unix.ETH_P_8021Q, make([]byte, 40)), false},
		{"nothing", plain, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := testStation.admit(tt.h, tt.frame); got != tt.want {
				t.Errorf("admit is %v, want %v", got, tt.want)
			}
		})
	}
}

// FuzzAdmit holds what is admitted to what the package promises.
func FuzzAdmit(f *testing.F) {
	own4, own6 := testStation.Addrs[0].Addr(), testStation.Addrs[1].Addr()
	for _, b := range [][]byte{
		ether(testStation, unix.ETH_P_IP, ip4(own4, unix.IPPROTO_TCP)),
		ether(testStation, unix.ETH_P_IPV6, ip6(own6, unix.IPPROTO_ICMPV6), advert(own6)),
		ether(testStation, unix.ETH_P_ARP, arp(testStation, own4)),
	} {
		f.Add(uint8(0), uint16(34), uint16(16), b)
		f.Add(uint8(1), uint16(34), uint16(16), b)
	}
	f.Fuzz(func(t *testing.T, flags uint8, start, offset uint16, b []byte) {
		h := tap.VNetHdr{Flags: flags, CSumStart: start, CSumOffset: offset}
		if !testStation.admit(h, b) {
			return
		}
		if string(b[sourceAt:sourceAt+macLen]) != string(testStation.MAC) {
			t.Error("admitted from another station")
		}
		if flags&tap.VNetNeedsCSum != 0 && int(start) < etherLen+ip4Len {
			t.Errorf("a checksum is to be filled in at %d", start)
		}
	})
}
