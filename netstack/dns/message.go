// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/net/dns/dnsmessage"
)

// Sizes of DNS messages, bytes.
const (
	headerLen  = 12    // RFC 1035 §4.1.1
	maxMessage = 65535 // RFC 1035 §4.2.2, also what a UDP datagram can hold
	maxName    = 255   // RFC 1035 §2.3.4
	maxLabel   = 63    // RFC 1035 §2.3.4
	typeClass  = 4     // type and class of a question
	// minReceive is the least room for an answer over UDP. RFC 6891 §6.2.5
	// makes it 512 without and what the query says with EDNS; more is lenient
	// to servers that overdo it.
	minReceive = 4096
)

// Parts of the header (RFC 1035 §4.1.1).
const (
	flagsOffset   = 2
	qdcountOffset = 4
	flagResponse  = 0x8000
	maskOpcode    = 0x7800
	maskRcode     = 0x000f
)

const (
	rcodeFormErr  = dnsmessage.RCodeFormatError
	rcodeServFail = dnsmessage.RCodeServerFailure
	rcodeNotImp   = dnsmessage.RCodeNotImplemented
)

// isQuery reports whether b has the header of a query.
func isQuery(b []byte) bool {
	return len(b) >= headerLen && len(b) <= maxMessage && flags(b)&flagResponse == 0
}

// question returns the only question of a message with a whole header. Its name
// must not be compressed: there is nothing before it to point to. The question
// count must be 1, as RFC 9619 §4 demands of queries.
func question(b []byte) (q []byte, ok bool) {
	if binary.BigEndian.Uint16(b[qdcountOffset:]) != 1 {
		return nil, false
	}
	end := headerLen
	for {
		if end >= len(b) || b[end] > maxLabel {
			return nil, false
		}
		n := int(b[end])
		end += 1 + n
		if end-headerLen > maxName {
			return nil, false
		}
		if n == 0 {
			break
		}
	}
	if end += typeClass; end > len(b) {
		return nil, false
	}
	return b[headerLen:end], true
}

// answers reports whether b answers the query: it is a response with the same id,
// operation and question. Case does not count, as servers may fold it. A server
// that could not read the query or does not want to may leave out the question.
func answers(b, query []byte) bool {
	if len(b) < headerLen || flags(b)&flagResponse == 0 || b[0] != query[0] || b[1] != query[1] ||
		(flags(b)^flags(query))&maskOpcode != 0 {
		return false
	}
	if binary.BigEndian.Uint16(b[qdcountOffset:]) == 0 {
		return rcode(b) == rcodeFormErr || poorAnswer(b)
	}
	got, ok := question(b)
	want, _ := question(query)
	if !ok || len(got) != len(want) {
		return false
	}
	name := len(want) - typeClass
	for i := range name {
		// Length octets are below 'A': folding does not touch them.
		if fold(got[i]) != fold(want[i]) {
			return false
		}
	}
	return bytes.Equal(got[name:], want[name:])
}

// poorAnswer reports whether another server may have better than b. The list is
// that of glibc (resolv/res_send.c, next_ns).
func poorAnswer(b []byte) bool {
	switch rcode(b) {
	case dnsmessage.RCodeServerFailure, dnsmessage.RCodeNotImplemented, dnsmessage.RCodeRefused:
		return true
	}
	return false
}

// failure returns an answer without records to the query, which must have a
// whole header: id, operation, RD and, where it can be read, the question are
// the query's.
func failure(query []byte, code dnsmessage.RCode) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID:                 h.ID,
		Response:           true,
		OpCode:             h.OpCode,
		RecursionDesired:   h.RecursionDesired,
		RecursionAvailable: true,
		RCode:              code,
	}}
	if q, err := p.Question(); err == nil {
		m.Questions = []dnsmessage.Question{q}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// receiveSize returns how much room the answer to the query may need over UDP:
// what its EDNS record offers (RFC 6891 §6.1.2), within bounds.
func receiveSize(query []byte) int {
	var p dnsmessage.Parser
	if _, err := p.Start(query); err != nil {
		return minReceive
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return minReceive
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return minReceive
		}
		if h.Type == dnsmessage.TypeOPT {
			return max(minReceive, int(h.Class))
		}
		if p.SkipAdditional() != nil {
			return minReceive
		}
	}
}

func flags(b []byte) uint16 { return binary.BigEndian.Uint16(b[flagsOffset:]) }

func rcode(b []byte) dnsmessage.RCode { return dnsmessage.RCode(flags(b) & maskRcode) }

// fold maps ASCII capitals to small letters (RFC 4343).
func fold(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
