// SPDX-License-Identifier: Apache-2.0

package attachtest

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// LongName is the name whose answer by UDP is truncated.
const LongName = "long.example."

// ServeDNS answers every question at the address of the place with a TXT record of
// the protocol it came by: "by udp" or "by tcp". The test's end ends it.
func (p *Place) ServeDNS(t testing.TB, addr netip.AddrPort) {
	t.Helper()
	udp, tcp := p.ListenPacket(t, addr), p.Listen(t, addr)
	go func() {
		buf := make([]byte, maxMessage)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteToUDPAddrPort(answerDNS(buf[:n], "udp"), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go answerTCP(c)
		}
	}()
}

// answerTCP answers the questions on a connection (RFC 1035 §4.2.2).
func answerTCP(c net.Conn) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		a := answerDNS(query, "tcp")
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
			return
		}
	}
}

// answerDNS returns the answer to one question, nil if it makes no sense.
func answerDNS(query []byte, proto string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if q.Name.String() == LongName && proto == "udp" {
		m.Truncated = true
	} else {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.TXTResource{TXT: []string{"by " + proto}},
		}}
	}
	a, err := m.Pack()
	if err != nil {
		return nil
	}
	return a
}
