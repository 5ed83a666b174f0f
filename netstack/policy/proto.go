// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
)

// A Proto is the protocol that a Rule is about. The zero Proto is Any.
type Proto uint8

// The protocols of rules.
const (
	Any Proto = iota
	TCP
	UDP
	ICMP // ICMP to IPv4 and ICMPv6 to IPv6 destinations
)

// IP protocol numbers, https://www.iana.org/assignments/protocol-numbers.
const (
	ipProtoICMP   = 1
	ipProtoTCP    = 6
	ipProtoUDP    = 17
	ipProtoICMPv6 = 58
)

// String returns the name used in rules: "tcp", "udp", "icmp", and "any", which
// ParseRule also takes.
func (p Proto) String() string {
	switch p {
	case Any:
		return "any"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case ICMP:
		return "icmp"
	}
	return fmt.Sprintf("proto(%d)", uint8(p))
}

// has reports whether an IP protocol is one that p stands for.
func (p Proto) has(proto uint8) bool {
	switch p {
	case TCP:
		return proto == ipProtoTCP
	case UDP:
		return proto == ipProtoUDP
	case ICMP:
		return proto == ipProtoICMP || proto == ipProtoICMPv6
	}
	return true
}

// overlaps reports whether there is a protocol that both stand for.
func (p Proto) overlaps(q Proto) bool { return p == q || p == Any || q == Any }

// cutProto takes /PROTO off the end of s, if it is there: a slash that is followed
// by a letter.
func cutProto(s string) (p Proto, rest string, err error) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 || !startsWithLetter(s[i+1:]) {
		return Any, s, nil
	}
	p, err = parseProto(s[i+1:])
	return p, s[:i], err
}

func startsWithLetter(s string) bool {
	return s != "" && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z')
}

func parseProto(s string) (Proto, error) {
	for p := Any; p <= ICMP; p++ {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown protocol %q: want tcp, udp, icmp or any", s)
}
