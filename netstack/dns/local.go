// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// localTTL is how long in seconds an answer of Config.Local may be kept: containers
	// come and go.
	localTTL = 1
	// maxLocal is how many addresses are told of one name, so that the answer with the
	// longest name is within 512 bytes (RFC 1035 §4.2.1).
	maxLocal = 8
)

// known answers the query from Config.Local, or returns nil where its name is none of
// those.
func (f *Forwarder) known(query []byte) []byte {
	if f.cfg.Local == nil {
		return nil
	}
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil || q.Class != dnsmessage.ClassINET {
		return nil
	}
	addrs := f.cfg.Local(strings.TrimSuffix(q.Name.String(), "."))
	if len(addrs) == 0 {
		return nil
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: h.ID, Response: true, Authoritative: true,
			RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
		},
		Questions: []dnsmessage.Question{q},
	}
	// Whoever takes the first gets another each time.
	addrs = slices.Clone(addrs)
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, a := range addrs {
		if r := addressRecord(a); r != nil && recordType(a) == q.Type && len(m.Answers) < maxLocal {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: localTTL}, Body: r,
			})
		}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

func recordType(a netip.Addr) dnsmessage.Type {
	if a.Is4() {
		return dnsmessage.TypeA
	}
	return dnsmessage.TypeAAAA
}

// addressRecord returns the record of the address, nil for the invalid one.
func addressRecord(a netip.Addr) dnsmessage.ResourceBody {
	switch {
	case a.Is4():
		return &dnsmessage.AResource{A: a.As4()}
	case a.Is6():
		return &dnsmessage.AAAAResource{AAAA: a.As16()}
	}
	return nil
}
