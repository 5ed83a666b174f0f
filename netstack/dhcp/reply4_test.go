// SPDX-License-Identifier: Apache-2.0

package dhcp_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/slipway-net/slipway/netstack/dhcp"
	"github.com/slipway-net/slipway/tap"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var ourMAC = net.HardwareAddr{0x52, 0x55, 10, 0, 2, 2}

func mac(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

func mustServer(t testing.TB, cidr4, cidr6 string) *dhcp.Server {
	t.Helper()
	var p4, p6 netip.Prefix
	if cidr4 != "" {
		p4 = netip.MustParsePrefix(cidr4)
	}
	if cidr6 != "" {
		p6 = netip.MustParsePrefix(cidr6)
	}
	plan, err := tap.NewPlan(p4, p6)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dhcp.New(dhcp.Config{
		Plan: plan, MTU: 65520, ServerMAC: ourMAC, DNS: true, Search: []string{"a.example.", "b.example", "not..one"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask4 sends a message of the type and returns the answer, nil for none.
func ask4(t testing.TB, s *dhcp.Server, now time.Time, t4 dhcpv4.MessageType, client byte, mods ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, netip.Addr) {
	t.Helper()
	m, err := dhcpv4.New(dhcpv4.PrependModifiers(mods, dhcpv4.WithHwAddr(mac(client)), dhcpv4.WithMessageType(t4))...)
	if err != nil {
		t.Fatal(err)
	}
	b, dst, ok := s.Reply4(m.ToBytes(), now)
	if !ok {
		return nil, netip.Addr{}
	}
	r, err := dhcpv4.FromBytes(b)
	if err != nil {
		t.Fatalf("our answer: %v", err)
	}
	if r.TransactionID != m.TransactionID || r.ClientHWAddr.String() != mac(client).String() || r.OpCode != dhcpv4.OpcodeBootReply {
		t.Errorf("answer is not to the request: %s", r.Summary())
	}
	return r, dst
}

func requested(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}

func server(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a)))
}

func has(a string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(a)) }

func TestReply4(t *testing.T) {
	const (
		discover = dhcpv4.MessageTypeDiscover
		offer    = dhcpv4.MessageTypeOffer
		request  = dhcpv4.MessageTypeRequest
		ack      = dhcpv4.MessageTypeAck
		nak      = dhcpv4.MessageTypeNak
		release  = dhcpv4.MessageTypeRelease
		decline  = dhcpv4.MessageTypeDecline
		inform   = dhcpv4.MessageTypeInform
		all      = "255.255.255.255"
	)
	type step struct {
		after  time.Duration
		client byte
		typ    dhcpv4.MessageType
		mods   []dhcpv4.Modifier
		want   dhcpv4.MessageType // 0: silence
		addr   string             // yiaddr
		dst    string
	}
	mods := func(ms ...dhcpv4.Modifier) []dhcpv4.Modifier { return ms }
	ours := server("10.0.2.2")
	tests := []struct {
		name  string
		steps []step
	}{
		{"first client", []step{
			{0, 1, discover, nil, offer, "10.0.2.100", "10.0.2.100"},
			{0, 1, request, mods(ours, requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
			{time.Hour, 1, request, mods(has("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
		}},
		{"broadcast flag", []step{
			{0, 1, discover, mods(dhcpv4.WithBroadcast(true)), offer, "10.0.2.100", all},
			{0, 1, request, mods(ours, requested("10.0.2.100"), dhcpv4.WithBroadcast(true)), ack, "10.0.2.100", all},
		}},
		{"second client", []step{
			{0, 1, discover, nil, offer, "10.0.2.100", "10.0.2.100"},
			{0, 2, discover, nil, offer, "10.0.2.15", "10.0.2.15"},
			{0, 3, discover, mods(requested("10.0.2.20")), offer, "10.0.2.20", "10.0.2.20"},
			{0, 4, discover, mods(requested("10.0.2.20")), offer, "10.0.2.16", "10.0.2.16"},
			{0, 5, discover, mods(requested("192.0.2.1")), offer, "10.0.2.17", "10.0.2.17"},
			{0, 1, discover, nil, offer, "10.0.2.100", "10.0.2.100"},
		}},
		{"offer not taken", []step{
			{0, 1, discover, nil, offer, "10.0.2.100", "10.0.2.100"},
			{time.Minute, 2, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
		}},
		{"same address after the lease", []step{
			{0, 1, discover, nil, offer, "10.0.2.100", "10.0.2.100"},
			{0, 2, request, mods(requested("10.0.2.17")), ack, "10.0.2.17", "10.0.2.17"},
			{48 * time.Hour, 2, discover, nil, offer, "10.0.2.17", "10.0.2.17"},
		}},
		{"reboot with our address", []step{{0, 1, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"}}},
		{"reboot with a foreign address", []step{{0, 1, request, mods(requested("192.168.1.5")), nak, "0.0.0.0", all}}},
		{"renew a foreign address", []step{{0, 1, request, mods(has("192.168.1.5")), nak, "0.0.0.0", all}}},
		{"the gateway's address", []step{{0, 1, request, mods(requested("10.0.2.2")), nak, "0.0.0.0", all}}},
		{"no address at all", []step{{0, 1, request, nil, nak, "0.0.0.0", all}}},
		{"another's address", []step{
			{0, 1, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
			{0, 2, request, mods(requested("10.0.2.100")), nak, "0.0.0.0", all},
		}},
		{"change of address frees the old one", []step{
			{0, 1, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
			{0, 1, request, mods(requested("10.0.2.15")), ack, "10.0.2.15", "10.0.2.15"},
			{0, 2, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
		}},
		{"another server", []step{{0, 1, request, mods(server("10.0.2.9"), requested("10.0.2.100")), 0, "", ""}}},
		{"release", []step{
			{0, 1, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
			{0, 2, release, mods(ours, has("10.0.2.100")), 0, "", ""},
			{0, 2, request, mods(requested("10.0.2.100")), nak, "0.0.0.0", all},
			{0, 1, release, mods(ours, has("10.0.2.100")), 0, "", ""},
			{0, 2, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
		}},
		{"decline", []step{
			{0, 1, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
			{0, 1, decline, mods(ours, requested("10.0.2.100")), 0, "", ""},
			{0, 1, discover, nil, offer, "10.0.2.15", "10.0.2.15"},
			{0, 1, request, mods(requested("10.0.2.100")), nak, "0.0.0.0", all},
			{dhcp.LeaseTime, 1, request, mods(requested("10.0.2.100")), ack, "10.0.2.100", "10.0.2.100"},
		}},
		{"inform", []step{{0, 1, inform, mods(has("10.0.2.77")), ack, "0.0.0.0", "10.0.2.77"}}},
		{"inform from elsewhere", []step{{0, 1, inform, mods(has("192.0.2.1")), 0, "", ""}}},
		{"relayed", []step{{0, 1, discover, mods(dhcpv4.WithRelay(net.IPv4(10, 0, 2, 9))), 0, "", ""}}},
		{"reply", []step{{0, 1, offer, nil, 0, "", ""}}},
		{"no type", []step{{0, 1, 0, mods(dhcpv4.WithoutOption(dhcpv4.OptionDHCPMessageType)), 0, "", ""}}},
		{"multicast hardware address", []step{{0, 1, discover, mods(dhcpv4.WithHwAddr(net.HardwareAddr{1, 0, 0, 0, 0, 1})), 0, "", ""}}},
		{"short hardware address", []step{{0, 1, discover, mods(dhcpv4.WithHwAddr(net.HardwareAddr{2, 0})), 0, "", ""}}},
		{"bootp reply", []step{{0, 1, discover, mods(func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply }), 0, "", ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustServer(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
			now := epoch
			for i, st := range tt.steps {
				now = now.Add(st.after)
				r, dst := ask4(t, s, now, st.typ, st.client, st.mods...)
				got := step{st.after, st.client, st.typ, st.mods, 0, "", ""}
				if r != nil {
					got.want, got.addr, got.dst = r.MessageType(), r.YourIPAddr.String(), dst.String()
				}
				if got.want != st.want || got.addr != st.addr || got.dst != st.dst {
					t.Fatalf("step %d: %v %s to %s, want %v %s to %s", i+1, got.want, got.addr, got.dst, st.want, st.addr, st.dst)
				}
			}
		})
	}
}

func TestOptions4(t *testing.T) {
	type options struct {
		Mask, Server, Router, DNS, Domain string
		Search                            []string
		Lease                             time.Duration
		MTU                               []byte
		ClientID                          []byte
	}
	get := func(r *dhcpv4.DHCPv4) options {
		o := options{Server: r.ServerIdentifier().String(), Domain: r.DomainName(), Lease: r.IPAddressLeaseTime(0), ClientID: r.GetOneOption(dhcpv4.OptionClientIdentifier)}
		if m := r.SubnetMask(); m != nil {
			o.Mask = m.String()
		}
		for _, a := range r.Router() {
			o.Router += a.String()
		}
		for _, a := range r.DNS() {
			o.DNS += a.String()
		}
		if d := r.DomainSearch(); d != nil {
			o.Search = d.Labels
		}
		o.MTU = r.GetOneOption(dhcpv4.OptionInterfaceMTU)
		return o
	}
	id := dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{1, 2, 3}))
	s := mustServer(t, "192.168.0.0/22", "")
	full := options{"fffffc00", "192.168.0.2", "192.168.0.2", "192.168.0.3", "a.example", []string{"a.example", "b.example"}, dhcp.LeaseTime, []byte{0xff, 0xf0}, []byte{1, 2, 3}}
	r, _ := ask4(t, s, epoch, dhcpv4.MessageTypeDiscover, 1, id)
	if diff := cmp.Diff(full, get(r)); diff != "" {
		t.Errorf("offer (-want +got):\n%s", diff)
	}
	r, _ = ask4(t, s, epoch, dhcpv4.MessageTypeInform, 1, id, has("192.168.0.50"))
	full.Lease = 0
	if diff := cmp.Diff(full, get(r)); diff != "" {
		t.Errorf("answer to inform (-want +got):\n%s", diff)
	}
	r, _ = ask4(t, s, epoch, dhcpv4.MessageTypeRequest, 1, id, requested("10.0.0.1"))
	if diff := cmp.Diff(options{Server: "192.168.0.2", ClientID: []byte{1, 2, 3}}, get(r)); diff != "" {
		t.Errorf("nak (-want +got):\n%s", diff)
	}
}

func TestPoolIsBounded(t *testing.T) {
	s := mustServer(t, tap.DefaultCIDR4, "")
	got := map[string]bool{}
	for n := range 200 {
		if r, _ := ask4(t, s, epoch, dhcpv4.MessageTypeDiscover, byte(n)); r != nil {
			got[r.YourIPAddr.String()] = true
		}
	}
	const addresses = 17 // .100 and .15 to .30
	if len(got) != addresses {
		t.Errorf("%d addresses given, want %d", len(got), addresses)
	}
	if r, _ := ask4(t, s, epoch.Add(time.Minute), dhcpv4.MessageTypeDiscover, 250); r == nil {
		t.Error("no address after the offers ran out")
	}
}

func TestFamilyOff(t *testing.T) {
	m, err := dhcpv4.NewDiscovery(mac(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := mustServer(t, "", tap.DefaultCIDR6).Reply4(m.ToBytes(), epoch); ok {
		t.Error("DHCPv4 answered without IPv4")
	}
	if _, ok := mustServer(t, tap.DefaultCIDR4, "").Reply6(solicit(t, 1).ToBytes(), epoch); ok {
		t.Error("DHCPv6 answered without IPv6")
	}
}

func TestNewRefuses(t *testing.T) {
	plan, err := tap.NewPlan(netip.Prefix{}, netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		config dhcp.Config
	}{
		{"no hardware address", dhcp.Config{Plan: plan}},
		{"small MTU", dhcp.Config{Plan: plan, ServerMAC: ourMAC, MTU: 67}},
		{"large MTU", dhcp.Config{Plan: plan, ServerMAC: ourMAC, MTU: 65536}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := dhcp.New(tt.config); err == nil {
				t.Error("New succeeded, want an error")
			}
		})
	}
}

func FuzzReply4(f *testing.F) {
	for _, typ := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform, dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeDecline} {
		m, err := dhcpv4.New(dhcpv4.WithHwAddr(mac(1)), dhcpv4.WithMessageType(typ), requested("10.0.2.100"), has("10.0.2.100"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.ToBytes())
	}
	s := mustServer(f, tap.DefaultCIDR4, tap.DefaultCIDR6)
	pool := netip.MustParsePrefix(tap.DefaultCIDR4)
	now := epoch
	f.Fuzz(func(t *testing.T, b []byte) {
		now = now.Add(time.Second)
		resp, dst, ok := s.Reply4(b, now)
		if !ok {
			return
		}
		r, err := dhcpv4.FromBytes(resp)
		if err != nil {
			t.Fatalf("our answer: %v", err)
		}
		a, _ := netip.AddrFromSlice(r.YourIPAddr.To4())
		if !a.IsUnspecified() && !pool.Contains(a) || !dst.Is4() || len(resp) > 2048 {
			t.Fatalf("leased %v, to %v, %d bytes", a, dst, len(resp))
		}
	})
}
