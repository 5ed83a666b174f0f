// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// Reply4 answers the payload of a datagram to UDP port 67. The answer goes from
// the gateway's address, port 67, to dst, port 68: where dst is the limited
// broadcast address in a broadcast frame, and otherwise in a frame to the
// client's hardware address, since the client may not have dst yet and cannot be
// asked for it by ARP (RFC 2131 §4.1). Without an answer ok is false.
func (s *Server) Reply4(req []byte, now time.Time) (resp []byte, dst netip.Addr, ok bool) {
	if !s.cfg.Plan.V4.Enabled() || len(req) > maxRequest {
		return nil, netip.Addr{}, false
	}
	m, err := dhcpv4.FromBytes(req)
	if err != nil || !acceptable4(m) {
		return nil, netip.Addr{}, false
	}
	r := s.answer4(m, now)
	if r == nil {
		return nil, netip.Addr{}, false
	}
	return r.ToBytes(), destination4(m, r), true
}

// acceptable4 reports whether m is a request of an Ethernet client on this link.
func acceptable4(m *dhcpv4.DHCPv4) bool {
	return m.OpCode == dhcpv4.OpcodeBootRequest && m.HWType == iana.HWTypeEthernet &&
		len(m.ClientHWAddr) == ethernetLen && m.ClientHWAddr[0]&1 == 0 &&
		m.GatewayIPAddr.IsUnspecified()
}

// answer4 returns the answer to m, nil for none.
func (s *Server) answer4(m *dhcpv4.DHCPv4, now time.Time) *dhcpv4.DHCPv4 {
	if id, given := serverOf4(m); given && id != s.cfg.Plan.V4.Gateway {
		return nil // meant for another server; there is none, but we are not asked
	}
	client := m.ClientHWAddr.String()
	want := addrOf(m.RequestedIPAddress(), net.IPv4len)
	has := addrOf(m.ClientIPAddr, net.IPv4len)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		l := s.pool4.offer(client, want, now, offerTime)
		if l == nil {
			s.log.Debug("no dhcp address left", "client", client)
			return nil
		}
		return s.grant4(m, dhcpv4.MessageTypeOffer, l.addr)
	case dhcpv4.MessageTypeRequest:
		return s.request4(m, client, want, has, now)
	case dhcpv4.MessageTypeInform:
		if !s.cfg.Plan.V4.Prefix.Contains(has) {
			return nil
		}
		return s.grant4(m, dhcpv4.MessageTypeAck, netip.Addr{})
	case dhcpv4.MessageTypeDecline:
		s.pool4.decline(client, want, now, LeaseTime)
	case dhcpv4.MessageTypeRelease:
		s.pool4.release(client, has, now)
	}
	return nil
}

// request4 answers a DHCPREQUEST in any of the client's states (RFC 2131 §4.3.2):
// one that selects an offer or reboots names the address in an option, one that
// renews or rebinds has it already.
func (s *Server) request4(m *dhcpv4.DHCPv4, client string, want, has netip.Addr, now time.Time) *dhcpv4.DHCPv4 {
	if !want.IsValid() || want.IsUnspecified() {
		want = has
	}
	l := s.pool4.claim(client, want, now, LeaseTime)
	if l == nil {
		s.log.Debug("refused dhcp request", "client", client, "address", want)
		return s.message4(m, dhcpv4.MessageTypeNak)
	}
	s.log.Debug("leased address", "client", client, "address", l.addr)
	return s.grant4(m, dhcpv4.MessageTypeAck, l.addr)
}

// grant4 returns an answer with the configuration and, where a is valid, an
// address to lease.
func (s *Server) grant4(m *dhcpv4.DHCPv4, t dhcpv4.MessageType, a netip.Addr) *dhcpv4.DHCPv4 {
	f := s.cfg.Plan.V4
	r := s.message4(m, t)
	if a.IsValid() {
		r.YourIPAddr = a.AsSlice()
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(LeaseTime))
	}
	if t != dhcpv4.MessageTypeOffer {
		r.ClientIPAddr = m.ClientIPAddr
	}
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(f.Prefix.Bits(), f.Prefix.Addr().BitLen())))
	r.UpdateOption(dhcpv4.OptRouter(f.Gateway.AsSlice()))
	if s.cfg.DNS && f.DNS.IsValid() {
		r.UpdateOption(dhcpv4.OptDNS(f.DNS.AsSlice()))
	}
	if s.cfg.MTU != 0 {
		mtu := []byte{byte(s.cfg.MTU >> 8), byte(s.cfg.MTU)}
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, mtu))
	}
	if len(s.search) > 0 {
		r.UpdateOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: s.search}))
		r.UpdateOption(dhcpv4.OptDomainName(s.search[0]))
	}
	return r
}

// message4 returns an answer that says no more than its type and what every
// answer has (RFC 2131 §4.3.1 table 3, RFC 6842).
func (s *Server) message4(m *dhcpv4.DHCPv4, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        m.HWType,
		TransactionID: m.TransactionID,
		Flags:         m.Flags,
		ClientIPAddr:  net.IPv4zero,
		YourIPAddr:    net.IPv4zero,
		ServerIPAddr:  net.IPv4zero,
		GatewayIPAddr: net.IPv4zero,
		ClientHWAddr:  m.ClientHWAddr,
		Options: dhcpv4.OptionsFromList(
			dhcpv4.OptMessageType(t),
			dhcpv4.OptServerIdentifier(s.cfg.Plan.V4.Gateway.AsSlice()),
		),
	}
	if id := m.GetOneOption(dhcpv4.OptionClientIdentifier); len(id) > 0 {
		r.UpdateOption(dhcpv4.OptClientIdentifier(id))
	}
	return r
}

// serverOf4 returns the server that the client has chosen, if it names one.
func serverOf4(m *dhcpv4.DHCPv4) (id netip.Addr, given bool) {
	if !m.Options.Has(dhcpv4.OptionServerIdentifier) {
		return netip.Addr{}, false
	}
	return addrOf(m.ServerIdentifier(), net.IPv4len), true
}

// destination4 is where the answer r to m goes (RFC 2131 §4.1).
func destination4(m, r *dhcpv4.DHCPv4) netip.Addr {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	has, gets := addrOf(m.ClientIPAddr, net.IPv4len), addrOf(r.YourIPAddr, net.IPv4len)
	switch {
	case r.MessageType() == dhcpv4.MessageTypeNak:
		return broadcast
	case has.IsValid() && !has.IsUnspecified() && r.MessageType() == dhcpv4.MessageTypeAck:
		return has
	case m.IsBroadcast() || !gets.IsValid() || gets.IsUnspecified():
		return broadcast
	}
	return gets
}
