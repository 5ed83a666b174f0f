// SPDX-License-Identifier: Apache-2.0

package neighbor_test

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/slipway-net/slipway/netstack/neighbor"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	container = "fd00::100"
	linkLocal = "fe80::ff:fe00:1"
	slla      = "\x01\x01\x02\x00\x00\x00\x00\x01"
)

// gsum is the checksum of a message by gVisor: its field does not count.
func gsum(src, dst netip.Addr, msg []byte) uint16 {
	return header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: header.ICMPv6(msg), Src: tcpip.AddrFrom16(src.As16()), Dst: tcpip.AddrFrom16(dst.As16()),
	})
}

// solicitation makes a message with its checksum.
func solicitation(typ ipv6.ICMPType, src, dst, body string) []byte {
	b := append([]byte{byte(typ), 0, 0, 0, 0, 0, 0, 0}, body...)
	header.ICMPv6(b).SetChecksum(gsum(netip.MustParseAddr(src), netip.MustParseAddr(dst), b))
	return b
}

func addr(s string) string { return string(netip.MustParseAddr(s).AsSlice()) }

func TestNeighborSolicitation(t *testing.T) {
	r := mustNew(t, neighbor.Config{Extra: []netip.Addr{netip.MustParseAddr("fd00::99")}})
	const ns = ipv6.ICMPTypeNeighborSolicitation
	tests := []struct {
		name     string
		src, dst string
		hops     uint8
		body     string
		to       string // empty: silence
	}{
		{"gateway", container, "ff02::1:ff00:2", 255, addr("fd00::2") + slla, container},
		{"resolver", container, "ff02::1:ff00:3", 255, addr("fd00::3") + slla, container},
		{"router", linkLocal, "ff02::1:ff00:2", 255, addr("fe80::2") + slla, linkLocal},
		{"mapped address", container, "ff02::1:ff00:99", 255, addr("fd00::99") + slla, container},
		{"still there", container, "fd00::2", 255, addr("fd00::2"), container},
		{"with nonce", container, "fd00::2", 255, addr("fd00::2") + slla + "\x0e\x01nonce!", container},
		{"duplicate of ours", "::", "ff02::1:ff00:2", 255, addr("fd00::2"), "ff02::1"},
		{"duplicate with nonce", "::", "ff02::1:ff00:2", 255, addr("fd00::2") + "\x0e\x01nonce!", "ff02::1"},
		{"duplicate of the container's own", "::", "ff02::1:ff00:100", 255, addr(container), ""},
		{"duplicate with hardware address", "::", "ff02::1:ff00:2", 255, addr("fd00::2") + slla, ""},
		{"duplicate by unicast", "::", "fd00::2", 255, addr("fd00::2"), ""},
		{"container's own", linkLocal, "ff02::1:ff00:100", 255, addr(container), ""},
		{"neighbour", container, "ff02::1:ff00:50", 255, addr("fd00::50"), ""},
		{"multicast target", container, "ff02::1", 255, addr("ff02::1"), ""},
		{"other group", container, "ff02::1:ff00:3", 255, addr("fd00::2"), ""},
		{"forwarded", container, "ff02::1:ff00:2", 254, addr("fd00::2"), ""},
		{"in our name", "fd00::2", "ff02::1:ff00:3", 255, addr("fd00::3"), ""},
		{"from a group", "ff02::1", "ff02::1:ff00:2", 255, addr("fd00::2"), ""},
		{"cut off", container, "ff02::1:ff00:2", 255, addr("fd00::2")[:15], ""},
		{"option of no length", container, "fd00::2", 255, addr("fd00::2") + "\x01\x00\x02\x00\x00\x00\x00\x01", ""},
		{"option cut off", container, "fd00::2", 255, addr("fd00::2") + slla[:7], ""},
		{"option too long", container, "fd00::2", 255, addr("fd00::2") + "\x01\x02\x02\x00\x00\x00\x00\x01", ""},
		{"one byte behind", container, "fd00::2", 255, addr("fd00::2") + "\x00", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, dst := netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst)
			reply, from, to, ok := r.ICMPv6(src, dst, tt.hops, solicitation(ns, tt.src, tt.dst, tt.body))
			if ok != (tt.to != "") {
				t.Fatalf("answered: %v, want %v", ok, tt.to != "")
			}
			if !ok {
				return
			}
			if from != netip.AddrFrom16([16]byte([]byte(tt.body))) || to != netip.MustParseAddr(tt.to) {
				t.Errorf("from %v to %v", from, to)
			}
			h := header.ICMPv6(reply)
			na := header.NDPNeighborAdvert(h.MessageBody())
			if h.Type() != header.ICMPv6NeighborAdvert || h.Code() != 0 || h.Checksum() != gsum(from, to, reply) {
				t.Fatalf("no valid advertisement: % x", reply)
			}
			if got := netip.AddrFrom16(na.TargetAddress().As16()); got != from {
				t.Errorf("target %v, want %v", got, from)
			}
			if !na.RouterFlag() || !na.OverrideFlag() || na.SolicitedFlag() != (tt.src != "::") {
				t.Errorf("flags R %v, O %v, S %v", na.RouterFlag(), na.OverrideFlag(), na.SolicitedFlag())
			}
			opts := options(t, na.Options())
			if len(opts) != 1 {
				t.Fatalf("options %v", opts)
			}
			if o, is := opts[0].(header.NDPTargetLinkLayerAddressOption); !is || !bytes.Equal([]byte(o), ourMAC) {
				t.Errorf("option %v, want our hardware address", opts[0])
			}
		})
	}
}

func TestRouterSolicitation(t *testing.T) {
	r := mustNew(t, neighbor.Config{})
	const rs = ipv6.ICMPTypeRouterSolicitation
	tests := []struct {
		name     string
		src, dst string
		hops     uint8
		typ      ipv6.ICMPType
		options  string
		to       string // empty: silence
	}{
		{"with address", linkLocal, "ff02::2", 255, rs, slla, linkLocal},
		{"without address", "::", "ff02::2", 255, rs, "", "ff02::1"},
		{"unspecified with hardware address", "::", "ff02::2", 255, rs, slla, ""},
		{"forwarded", linkLocal, "ff02::2", 64, rs, slla, ""},
		{"broken option", linkLocal, "ff02::2", 255, rs, "\x01\x00", ""},
		{"advertisement", linkLocal, "ff02::1", 255, ipv6.ICMPTypeRouterAdvertisement, "12345678", ""},
		{"listener report", linkLocal, "ff02::16", 255, ipv6.ICMPTypeVersion2MulticastListenerReport, "", ""},
		{"ping", linkLocal, "fe80::2", 255, ipv6.ICMPTypeEchoRequest, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply, from, to, ok := r.ICMPv6(netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst), tt.hops,
				solicitation(tt.typ, tt.src, tt.dst, tt.options))
			if ok != (tt.to != "") {
				t.Fatalf("answered: %v, want %v", ok, tt.to != "")
			}
			if !ok {
				return
			}
			if from != netip.MustParseAddr("fe80::2") || to != netip.MustParseAddr(tt.to) {
				t.Errorf("from %v to %v", from, to)
			}
			if header.ICMPv6(reply).Checksum() != gsum(from, to, reply) {
				t.Error("wrong checksum")
			}
		})
	}
}

func TestBrokenMessages(t *testing.T) {
	r := mustNew(t, neighbor.Config{})
	src, dst := netip.MustParseAddr(container), netip.MustParseAddr("fd00::2")
	good := solicitation(ipv6.ICMPTypeNeighborSolicitation, container, "fd00::2", addr("fd00::2"))
	code := with(good, 1, 1)
	header.ICMPv6(code).SetChecksum(gsum(src, dst, code))
	tests := []struct {
		name string
		src  netip.Addr
		msg  []byte
	}{
		{"empty", src, nil},
		{"cut off", src, good[:7]},
		{"checksum", src, with(good, 2, good[2]^1)},
		{"code", src, code},
		{"no address", netip.Addr{}, good},
		{"ipv4 address", netip.MustParseAddr("10.0.2.100"), good},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, _, ok := r.ICMPv6(tt.src, dst, 255, tt.msg); ok {
				t.Error("answered")
			}
		})
	}
	if _, _, _, ok := r.ICMPv6(src, dst, 255, good); !ok {
		t.Error("the message that is not broken was not answered")
	}
	only4 := mustNew(t, neighbor.Config{Plan: mustPlan(t, tap.DefaultCIDR4, "")})
	if _, _, _, ok := only4.ICMPv6(src, dst, 255, good); ok || only4.RouterAdvert() != nil {
		t.Error("answered without IPv6")
	}
}

func TestRouterAdvert(t *testing.T) {
	type advert struct {
		Hops                        uint8
		Managed, Other              bool
		Lifetime                    time.Duration
		Prefix                      string
		OnLink, Auto                bool
		Valid, Preferred            time.Duration
		MAC, MTU, DNS               string
		DNSLifetime, SearchLifetime time.Duration
		Search                      []string
	}
	base := advert{
		Hops: 64, Lifetime: 1800 * time.Second, Prefix: "fd00:1:2:3::/64", OnLink: true, Auto: true,
		Valid: 86400 * time.Second, Preferred: 14400 * time.Second, MAC: string(ourMAC),
	}
	full := base
	full.Other, full.MTU, full.DNS, full.DNSLifetime = true, "\x00\x00\x00\x00\xff\xf0", "fd00:1:2:3::3", 1800*time.Second
	full.Search, full.SearchLifetime = []string{"a.example", "b-1.example"}, 1800*time.Second
	label := strings.Repeat("a", 60)
	long := strings.Join([]string{label, label, label, label}, ".") // 245 bytes on the wire, of 1024
	many := base
	many.Search, many.SearchLifetime = []string{long, long, long, long, "b"}, 1800*time.Second
	tests := []struct {
		name   string
		config neighbor.Config
		want   advert
	}{
		{"bare", neighbor.Config{}, base},
		{"full", neighbor.Config{MTU: 65520, RDNSS: true, Search: []string{"a.example", "b-1.example."}}, full},
		{"search without names", neighbor.Config{Search: []string{"", ".", "a..b", label + label, strings.Repeat("a.", 130)}}, base},
		{"too many names", neighbor.Config{Search: []string{long, long, long, long, long, "b"}}, many},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Plan = mustPlan(t, "", "fd00:1:2:3::/64")
			b := mustNew(t, tt.config).RouterAdvert()
			const minMTU, header6 = 1280, 40
			if len(b) > minMTU-header6 {
				t.Errorf("%d bytes do not fit into the least MTU", len(b))
			}
			h := header.ICMPv6(b)
			if h.Type() != header.ICMPv6RouterAdvert || h.Checksum() != gsum(netip.MustParseAddr("fe80::2"), neighbor.AllNodes(), b) {
				t.Fatalf("no valid advertisement: % x", b)
			}
			ra := header.NDPRouterAdvert(h.MessageBody())
			got := advert{Hops: ra.CurrHopLimit(), Managed: ra.ManagedAddrConfFlag(), Other: ra.OtherConfFlag(), Lifetime: ra.RouterLifetime()}
			for _, o := range options(t, ra.Options()) {
				switch o := o.(type) {
				case header.NDPPrefixInformation:
					s := o.Subnet()
					got.Prefix, got.OnLink, got.Auto = s.String(), o.OnLinkFlag(), o.AutonomousAddressConfigurationFlag()
					got.Valid, got.Preferred = o.ValidLifetime(), o.PreferredLifetime()
				case header.NDPSourceLinkLayerAddressOption:
					got.MAC = string(o)
				case header.NDPRecursiveDNSServer:
					as, err := o.Addresses()
					if err != nil || len(as) != 1 {
						t.Fatalf("resolvers %v, %v", as, err)
					}
					got.DNS, got.DNSLifetime = as[0].String(), o.Lifetime()
				case header.NDPDNSSearchList:
					names, err := o.DomainNames()
					if err != nil {
						t.Fatal(err)
					}
					got.Search, got.SearchLifetime = names, o.Lifetime()
				}
			}
			got.MTU = mtuOption(ra.Options())
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("advertisement (-want +got):\n%s", diff)
			}
		})
	}
}

// options returns what gVisor's parser, in its strict mode, makes of them.
func options(t testing.TB, raw header.NDPOptions) []header.NDPOption {
	t.Helper()
	it, err := raw.Iter(true)
	if err != nil {
		t.Fatalf("options % x: %v", []byte(raw), err)
	}
	var os []header.NDPOption
	for {
		o, done, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return os
		}
		os = append(os, o)
	}
}

// mtuOption returns the data of the MTU option, which gVisor does not know.
func mtuOption(raw header.NDPOptions) string {
	for len(raw) > 0 {
		n := int(raw[1]) * 8
		if raw[0] == 5 {
			return string(raw[2:n])
		}
		raw = raw[n:]
	}
	return ""
}

func TestRouterAdvertIsTheCallers(t *testing.T) {
	r := mustNew(t, neighbor.Config{})
	a := r.RouterAdvert()
	want := bytes.Clone(a)
	clear(a)
	if !bytes.Equal(r.RouterAdvert(), want) {
		t.Error("changing one advertisement changes the next")
	}
}

func FuzzICMPv6(f *testing.F) {
	ns, rs := ipv6.ICMPTypeNeighborSolicitation, ipv6.ICMPTypeRouterSolicitation
	f.Add(netip.MustParseAddr(container).AsSlice(), netip.MustParseAddr("fd00::2").AsSlice(), solicitation(ns, container, "fd00::2", addr("fd00::2")+slla))
	f.Add(netip.IPv6Unspecified().AsSlice(), netip.MustParseAddr("ff02::1:ff00:2").AsSlice(), solicitation(ns, "::", "ff02::1:ff00:2", addr("fd00::2")))
	f.Add(netip.MustParseAddr(linkLocal).AsSlice(), netip.MustParseAddr("ff02::2").AsSlice(), solicitation(rs, linkLocal, "ff02::2", slla))
	f.Add([]byte{10, 0, 2, 100}, []byte{10, 0, 2, 2}, []byte{133, 0})
	r := mustNew(f, neighbor.Config{MTU: 1500, RDNSS: true})
	f.Fuzz(func(t *testing.T, s, d, msg []byte) {
		src, _ := netip.AddrFromSlice(s)
		dst, _ := netip.AddrFromSlice(d)
		if src.Is6() && dst.Is6() && len(msg) >= header.ICMPv6MinimumSize {
			// A checksum is not what is to be found out here.
			msg = bytes.Clone(msg)
			header.ICMPv6(msg).SetChecksum(gsum(src, dst, msg))
		}
		reply, from, to, ok := r.ICMPv6(src, dst, neighbor.HopLimit, msg)
		if !ok {
			return
		}
		if !r.Owns(from) || !to.Is6() || header.ICMPv6(reply).Checksum() != gsum(from, to, reply) {
			t.Fatalf("from %v to %v: % x", from, to, reply)
		}
		if _, err := icmp.ParseMessage(58, reply); err != nil {
			t.Fatal(err)
		}
	})
}
