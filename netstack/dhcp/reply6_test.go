// SPDX-License-Identifier: Apache-2.0

package dhcp_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/slipway-net/slipway/netstack/dhcp"
	"github.com/slipway-net/slipway/tap"
)

func message6(typ dhcpv6.MessageType, client byte, mods ...dhcpv6.Modifier) *dhcpv6.Message {
	m := &dhcpv6.Message{MessageType: typ, TransactionID: dhcpv6.TransactionID{1, 2, 3}}
	m.AddOption(dhcpv6.OptClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac(client)}))
	for _, mod := range mods {
		mod(m)
	}
	return m
}

func solicit(t testing.TB, client byte) *dhcpv6.Message {
	t.Helper()
	m, err := dhcpv6.NewSolicit(mac(client))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// toUs names our server.
func toUs(d dhcpv6.DHCPv6) {
	dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: ourMAC})(d)
}

func toOther(d dhcpv6.DHCPv6) {
	dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac(99)})(d)
}

// ia is an association with the addresses.
func ia(addrs ...string) dhcpv6.Modifier {
	return func(d dhcpv6.DHCPv6) {
		o := &dhcpv6.OptIANA{IaId: [4]byte{0, 0, 0, 1}}
		for _, a := range addrs {
			o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(a)})
		}
		d.AddOption(o)
	}
}

// gist6 says in words what an answer holds.
func gist6(t testing.TB, b []byte) []string {
	t.Helper()
	m, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		t.Fatalf("our answer: %v", err)
	}
	if m.TransactionID != (dhcpv6.TransactionID{1, 2, 3}) {
		t.Errorf("transaction id %v", m.TransactionID)
	}
	if id := m.Options.ServerID(); id == nil || !id.Equal(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: ourMAC}) {
		t.Errorf("server id %v", id)
	}
	words := []string{m.MessageType.String()}
	if m.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
		words = append(words, "rapid")
	}
	for _, ia := range m.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			words = append(words, fmt.Sprintf("%v for %v", a.IPv6Addr, a.ValidLifetime))
		}
		if s := ia.Options.Status(); s != nil {
			words = append(words, "ia "+s.StatusCode.String())
		}
	}
	if s := m.Options.Status(); s != nil {
		words = append(words, s.StatusCode.String())
	}
	for _, a := range m.Options.DNS() {
		words = append(words, "dns "+a.String())
	}
	if l := m.Options.DomainSearchList(); l != nil {
		words = append(words, fmt.Sprint("search ", l.Labels))
	}
	return words
}

func TestReply6(t *testing.T) {
	const (
		dns    = "dns fd00::3"
		search = "search [a.example b.example]"
	)
	type step struct {
		after time.Duration
		req   *dhcpv6.Message
		want  []string // nil: silence
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"information request", []step{{0, message6(dhcpv6.MessageTypeInformationRequest, 1), []string{"REPLY", dns, search}}}},
		{"anonymous information request", []step{{0, &dhcpv6.Message{MessageType: dhcpv6.MessageTypeInformationRequest, TransactionID: dhcpv6.TransactionID{1, 2, 3}}, []string{"REPLY", dns, search}}}},
		{"information request to another", []step{{0, message6(dhcpv6.MessageTypeInformationRequest, 1, toOther), nil}}},
		{"information request with association", []step{{0, message6(dhcpv6.MessageTypeInformationRequest, 1, ia()), nil}}},
		{"four messages", []step{
			{0, message6(dhcpv6.MessageTypeSolicit, 1, ia()), []string{"ADVERTISE", "fd00::100 for 24h0m0s", dns, search}},
			{0, message6(dhcpv6.MessageTypeRequest, 1, toUs, ia("fd00::100")), []string{"REPLY", "fd00::100 for 24h0m0s", dns, search}},
			{time.Hour, message6(dhcpv6.MessageTypeRenew, 1, toUs, ia("fd00::100")), []string{"REPLY", "fd00::100 for 24h0m0s", dns, search}},
			{time.Hour, message6(dhcpv6.MessageTypeRebind, 1, ia("fd00::100")), []string{"REPLY", "fd00::100 for 24h0m0s", dns, search}},
		}},
		{"rapid commit", []step{
			{0, message6(dhcpv6.MessageTypeSolicit, 1, ia(), dhcpv6.WithRapidCommit), []string{"REPLY", "rapid", "fd00::100 for 24h0m0s", dns, search}},
			{time.Hour, message6(dhcpv6.MessageTypeSolicit, 2, ia("fd00::100")), []string{"ADVERTISE", "fd00::f for 24h0m0s", dns, search}},
		}},
		{"offer not taken", []step{
			{0, message6(dhcpv6.MessageTypeSolicit, 1, ia()), []string{"ADVERTISE", "fd00::100 for 24h0m0s", dns, search}},
			{time.Hour, message6(dhcpv6.MessageTypeSolicit, 2, ia("fd00::100")), []string{"ADVERTISE", "fd00::100 for 24h0m0s", dns, search}},
		}},
		{"foreign address", []step{
			{0, message6(dhcpv6.MessageTypeRenew, 1, toUs, ia("2001:db8::1")), []string{"REPLY", "fd00::100 for 24h0m0s", "2001:db8::1 for 0s", dns, search}},
		}},
		{"confirm", []step{
			{0, message6(dhcpv6.MessageTypeConfirm, 1, ia("fd00::100")), []string{"REPLY", "Success"}},
			{0, message6(dhcpv6.MessageTypeConfirm, 1, ia("fd00::100", "2001:db8::1")), []string{"REPLY", "NotOnLink"}},
			{0, message6(dhcpv6.MessageTypeConfirm, 1, ia()), nil},
		}},
		{"release", []step{
			{0, message6(dhcpv6.MessageTypeRequest, 1, toUs, ia()), []string{"REPLY", "fd00::100 for 24h0m0s", dns, search}},
			{0, message6(dhcpv6.MessageTypeRelease, 2, toUs, ia("fd00::100")), []string{"REPLY", "ia NoBinding", "Success"}},
			{0, message6(dhcpv6.MessageTypeRelease, 1, toUs, ia("fd00::100")), []string{"REPLY", "Success"}},
			{0, message6(dhcpv6.MessageTypeRequest, 2, toUs, ia("fd00::100")), []string{"REPLY", "fd00::100 for 24h0m0s", dns, search}},
		}},
		{"decline", []step{
			{0, message6(dhcpv6.MessageTypeRequest, 1, toUs, ia()), []string{"REPLY", "fd00::100 for 24h0m0s", dns, search}},
			{0, message6(dhcpv6.MessageTypeDecline, 1, toUs, ia("fd00::100")), []string{"REPLY", "Success"}},
			{0, message6(dhcpv6.MessageTypeSolicit, 1, ia()), []string{"ADVERTISE", "fd00::f for 24h0m0s", dns, search}},
		}},
		{"no association", []step{{0, message6(dhcpv6.MessageTypeSolicit, 1), []string{"ADVERTISE", dns, search}}}},
		{"solicit to a server", []step{{0, message6(dhcpv6.MessageTypeSolicit, 1, toUs, ia()), nil}}},
		{"request to another", []step{{0, message6(dhcpv6.MessageTypeRequest, 1, toOther, ia()), nil}}},
		{"request to none", []step{{0, message6(dhcpv6.MessageTypeRequest, 1, ia()), nil}}},
		{"no client", []step{{0, &dhcpv6.Message{MessageType: dhcpv6.MessageTypeSolicit}, nil}}},
		{"reply", []step{{0, message6(dhcpv6.MessageTypeReply, 1), nil}}},
		{"long client id", []step{{0, &dhcpv6.Message{MessageType: dhcpv6.MessageTypeSolicit, Options: dhcpv6.MessageOptions{Options: dhcpv6.Options{
			dhcpv6.OptClientID(&dhcpv6.DUIDOpaque{Type: 77, Data: make([]byte, 129)})}}}, nil}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustServer(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
			now := epoch
			for i, st := range tt.steps {
				now = now.Add(st.after)
				var got []string
				if b, ok := s.Reply6(st.req.ToBytes(), now); ok {
					got = gist6(t, b)
				}
				if diff := cmp.Diff(st.want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i+1, diff)
				}
			}
		})
	}
}

func TestPool6IsBounded(t *testing.T) {
	s := mustServer(t, "", tap.DefaultCIDR6)
	full := 0
	for n := range 100 {
		b, ok := s.Reply6(message6(dhcpv6.MessageTypeSolicit, byte(n), ia()).ToBytes(), epoch)
		if !ok {
			t.Fatal("no answer")
		}
		if gist6(t, b)[1] == "ia NoAddrsAvail" {
			full++
		}
	}
	const addresses = 17 // ::100 and ::f to ::1e
	if full != 100-addresses {
		t.Errorf("%d clients of 100 without an address, want %d", full, 100-addresses)
	}
}

// TestDomainNamesAreNotExpanded holds that what a client may put beside the
// options that count does not reach the library, which would refuse it here.
func TestDomainNamesAreNotExpanded(t *testing.T) {
	bad := &dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionDomainSearchList, OptionData: []byte{0xc0, 0, 0xc0}}
	m := message6(dhcpv6.MessageTypeSolicit, 1)
	m.AddOption(bad)
	assoc := &dhcpv6.OptIANA{IaId: [4]byte{0, 0, 0, 1}}
	assoc.Options.Add(bad)
	m.AddOption(assoc)
	if _, err := dhcpv6.MessageFromBytes(m.ToBytes()); err == nil {
		t.Fatal("the library takes the option: this test shows nothing")
	}
	s := mustServer(t, "", tap.DefaultCIDR6)
	if _, ok := s.Reply6(m.ToBytes(), epoch); !ok {
		t.Error("no answer: the option reached the library")
	}
}

func FuzzReply6(f *testing.F) {
	for _, m := range []*dhcpv6.Message{
		message6(dhcpv6.MessageTypeSolicit, 1, ia(), dhcpv6.WithRapidCommit),
		message6(dhcpv6.MessageTypeRequest, 1, toUs, ia("fd00::100", "fd00::101")),
		message6(dhcpv6.MessageTypeRelease, 1, toUs, ia("fd00::100")),
		message6(dhcpv6.MessageTypeConfirm, 1, ia("fd00::100")),
		message6(dhcpv6.MessageTypeInformationRequest, 1),
	} {
		f.Add(m.ToBytes())
	}
	s := mustServer(f, tap.DefaultCIDR4, tap.DefaultCIDR6)
	now := epoch
	f.Fuzz(func(t *testing.T, b []byte) {
		now = now.Add(time.Second)
		resp, ok := s.Reply6(b, now)
		if !ok {
			return
		}
		m, err := dhcpv6.MessageFromBytes(resp)
		if err != nil {
			t.Fatalf("our answer: %v", err)
		}
		for _, ia := range m.Options.IANA() {
			live := 0
			for _, a := range ia.Options.Addresses() {
				if a.ValidLifetime == dhcp.LeaseTime {
					live++
				}
			}
			if live > 1 {
				t.Fatalf("%d addresses for one association", live)
			}
		}
	})
}
