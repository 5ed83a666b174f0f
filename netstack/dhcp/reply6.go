// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// Shares of the preferred time after which a client renews at its server and
// rebinds at any (RFC 8415 §21.4), in percent.
const (
	renewPercent  = 50
	rebindPercent = 80
)

// Reply6 answers the payload of a datagram to UDP port 547. The answer goes from
// our link-local address, port 547, to the request's source address, port 546.
// Without an answer ok is false.
func (s *Server) Reply6(req []byte, now time.Time) (resp []byte, ok bool) {
	if !s.cfg.Plan.V6.Enabled() || len(req) > maxRequest {
		return nil, false
	}
	sieved, ok := sieve6(req)
	if !ok {
		return nil, false
	}
	m, err := dhcpv6.MessageFromBytes(sieved)
	if err != nil || !s.acceptable6(m) {
		return nil, false
	}
	r := s.answer6(m, now)
	if r == nil {
		return nil, false
	}
	return r.ToBytes(), true
}

// acceptable6 reports whether m names client and server as its type demands (RFC
// 8415 §16).
func (s *Server) acceptable6(m *dhcpv6.Message) bool {
	client, server := m.Options.ClientID(), m.Options.ServerID()
	ours := server != nil && bytes.Equal(server.ToBytes(), s.duid)
	switch m.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		return client != nil && server == nil
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return client != nil && ours
	case dhcpv6.MessageTypeInformationRequest:
		return (server == nil || ours) && len(m.Options.IANA()) == 0
	}
	return false
}

// answer6 returns the answer to m, nil for none.
func (s *Server) answer6(m *dhcpv6.Message, now time.Time) *dhcpv6.Message {
	r := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: m.TransactionID}
	switch m.MessageType {
	case dhcpv6.MessageTypeSolicit:
		keep := offerTime
		if m.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			keep = LeaseTime
			dhcpv6.WithRapidCommit(r)
		} else {
			r.MessageType = dhcpv6.MessageTypeAdvertise
		}
		s.grant6(m, r, now, keep)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		s.grant6(m, r, now, LeaseTime)
	case dhcpv6.MessageTypeConfirm:
		if !s.confirm6(m, r) {
			return nil
		}
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		s.giveBack6(m, r, now)
	case dhcpv6.MessageTypeInformationRequest:
		s.configure6(r)
	}
	if id := m.Options.ClientID(); id != nil {
		r.AddOption(dhcpv6.OptClientID(id))
	}
	r.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: s.cfg.ServerMAC}))
	return r
}

// grant6 puts an address for each of the client's associations into r, and the
// configuration.
func (s *Server) grant6(m, r *dhcpv6.Message, now time.Time, keep time.Duration) {
	for _, ia := range m.Options.IANA() {
		out := &dhcpv6.OptIANA{IaId: ia.IaId}
		r.AddOption(out)
		l := s.pool6.offer(client6(m, ia), firstAddr(ia), now, keep)
		if l == nil {
			out.Options.Add(status(iana.StatusNoAddrsAvail))
			continue
		}
		out.T1 = preferredTime * renewPercent / 100
		out.T2 = preferredTime * rebindPercent / 100
		out.Options.Add(&dhcpv6.OptIAAddress{
			IPv6Addr:          l.addr.AsSlice(),
			PreferredLifetime: preferredTime,
			ValidLifetime:     LeaseTime,
		})
		// The client must drop what it has besides (RFC 8415 §18.3.4).
		for _, a := range ia.Options.Addresses() {
			if r.MessageType == dhcpv6.MessageTypeReply && addrOf(a.IPv6Addr, net.IPv6len) != l.addr {
				out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
			}
		}
	}
	s.configure6(r)
}

// confirm6 says in r whether all of the client's addresses are of this link. It
// reports whether there is anything to say (RFC 8415 §18.3.3).
func (s *Server) confirm6(m, r *dhcpv6.Message) bool {
	code, any := iana.StatusSuccess, false
	for _, ia := range m.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			any = true
			if !s.cfg.Plan.V6.Prefix.Contains(addrOf(a.IPv6Addr, net.IPv6len)) {
				code = iana.StatusNotOnLink
			}
		}
	}
	r.AddOption(status(code))
	return any
}

// giveBack6 frees what the client releases, and takes out of use what it declines.
func (s *Server) giveBack6(m, r *dhcpv6.Message, now time.Time) {
	for _, ia := range m.Options.IANA() {
		known := false
		for _, a := range ia.Options.Addresses() {
			addr := addrOf(a.IPv6Addr, net.IPv6len)
			if m.MessageType == dhcpv6.MessageTypeRelease {
				known = s.pool6.release(client6(m, ia), addr, now) || known
			} else {
				known = s.pool6.decline(client6(m, ia), addr, now, LeaseTime) || known
			}
		}
		if !known {
			out := &dhcpv6.OptIANA{IaId: ia.IaId}
			out.Options.Add(status(iana.StatusNoBinding))
			r.AddOption(out)
		}
	}
	r.AddOption(status(iana.StatusSuccess))
}

// configure6 adds what is the same for all clients.
func (s *Server) configure6(r *dhcpv6.Message) {
	if s.cfg.DNS && s.cfg.Plan.V6.DNS.IsValid() {
		r.AddOption(dhcpv6.OptDNS(s.cfg.Plan.V6.DNS.AsSlice()))
	}
	if len(s.search) > 0 {
		r.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: s.search}))
	}
}

// client6 is the key of one association: a client may have several.
func client6(m *dhcpv6.Message, ia *dhcpv6.OptIANA) string {
	return string(ia.IaId[:]) + string(m.Options.ClientID().ToBytes())
}

func firstAddr(ia *dhcpv6.OptIANA) netip.Addr {
	if a := ia.Options.OneAddress(); a != nil {
		return addrOf(a.IPv6Addr, net.IPv6len)
	}
	return netip.Addr{}
}

func status(code iana.StatusCode) dhcpv6.Option {
	return &dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: code.String()}
}

// duidOf is the DUID of a server with the hardware address (RFC 8415 §11.4).
func duidOf(mac net.HardwareAddr) []byte {
	return dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}.ToBytes()
}
