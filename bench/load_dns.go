// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsPort is where resolvers listen (RFC 1035 §4.2.1).
const dnsPort = 53

// dnsTTL is the time to live of the answers, in seconds.
const dnsTTL = 60

// dnsExchange asks the resolver for a name of its own and wants the address that
// answerDNS gives to it, from a port of its own as the C library does.
func dnsExchange(resolver netip.Addr, n, tries int) error {
	name, err := dnsmessage.NewName(fmt.Sprintf("n%d.bench.test.", n))
	if err != nil {
		return fmt.Errorf("DNS query: %w", err)
	}
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(n), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	packed, err := query.Pack()
	if err != nil {
		return fmt.Errorf("DNS query: %w", err)
	}
	err = ask(netip.AddrPortFrom(resolver, dnsPort), packed, tries, func(answer []byte) error {
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil {
			return err
		}
		if m.ID != query.ID || m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 1 {
			return fmt.Errorf("answer %d with %s and %d records, want %d", m.ID, m.RCode, len(m.Answers), query.ID)
		}
		a, ok := m.Answers[0].Body.(*dnsmessage.AResource)
		if !ok || a.A != addressOf(name.String()) {
			return fmt.Errorf("wrong answer for %s: %v", name, m.Answers[0].GoString())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("DNS query %d: %w", n, err)
	}
	return nil
}

// addressOf makes up the address of a name: 10 and a checksum of it.
func addressOf(name string) [4]byte {
	const prime = 16777619 // of FNV
	sum := uint32(0)
	for _, b := range []byte(name) {
		sum = (sum ^ uint32(b)) * prime
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], sum)
	a[0] = 10
	return a
}

// dnsArgs ask for queries to the resolver.
type dnsArgs struct {
	Resolver netip.Addr
	Loop     loop
}

// dnsLoop asks until the window is over. A query is not repeated: one without an
// answer has failed.
func dnsLoop(a dnsArgs) (loopResult, error) {
	return a.Loop.run(func(n int) error { return dnsExchange(a.Resolver, n, 1) }), nil
}

// serveUDP starts the peer's UDP echo and resolver, which end with the process.
func serveUDP() error {
	if err := answerUDP(udpPortEcho, func(b []byte) ([]byte, error) { return b, nil }); err != nil {
		return err
	}
	return answerUDP(dnsPort, answerDNS)
}

// answerUDP answers the datagrams that come to the port. What f returns an error
// for stays without an answer.
func answerUDP(port int, f func([]byte) ([]byte, error)) error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return fmt.Errorf("listen at UDP port %d: %w", port, err)
	}
	go func() {
		buf := make([]byte, udpMaxSize)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // an ICMP error of an earlier answer
			}
			if answer, err := f(buf[:n]); err == nil {
				// One that is lost is asked for again.
				_, _ = c.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
	return nil
}

// answerDNS answers a query for any name with its made-up address.
func answerDNS(b []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		return nil, err
	}
	if len(m.Questions) != 1 || m.Response {
		return nil, errors.New("not a query")
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: dnsTTL},
			Body:   &dnsmessage.AResource{A: addressOf(q.Name.String())},
		}}
	}
	return m.Pack()
}
