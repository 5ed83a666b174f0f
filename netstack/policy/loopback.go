// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A LoopbackAt says that an address of the container's side leads to the host's
// loopback, or to another address of the host: an IPv4 address to 127.0.0.1, an IPv6
// address to ::1, where Host says no other. It is a plain
// value; the zero LoopbackAt is not valid.
type LoopbackAt struct {
	Addr netip.Addr // without zone, not IPv4-mapped
	// PortLo and PortHi bound the ports that lead there, both included; 0, 0 stands
	// for all.
	PortLo, PortHi uint16
	// HostPort is the port of the host that PortLo leads to, and those that follow
	// lead to those that follow it; 0 means that all lead to their own number.
	HostPort uint16
	Proto    Proto // TCP, UDP or Any for both
	// Host is the address of the host that Addr leads to in place of its loopback, of
	// the same family; the zero Addr means loopback.
	Host netip.Addr
}

// ParseLoopback reads what follows --host-loopback:
//
//	ADDR[:PORTS][/PROTO]
//
// PORTS is a list of N or LO-HI, each perhaps with =HOSTPORT behind it, with commas
// between them, as in "10.0.2.2:80=8080,5432,9000-9010/tcp", and PROTO is tcp, udp
// or any. An IPv6 address with ports is written in brackets. Each of the list
// becomes a LoopbackAt.
func ParseLoopback(s string) ([]LoopbackAt, error) {
	ls, err := parseLoopback(s)
	if err != nil {
		return nil, fmt.Errorf("host loopback %q: %w", s, err)
	}
	return ls, nil
}

func parseLoopback(s string) ([]LoopbackAt, error) {
	proto, rest, err := cutProto(s)
	if err != nil {
		return nil, err
	}
	addr, ports, err := splitPorts(rest)
	if err != nil {
		return nil, err
	}
	l := LoopbackAt{Proto: proto}
	if l.Addr, err = parseAddr(addr); err != nil {
		return nil, err
	}
	if ports == "" {
		return []LoopbackAt{l}, l.validate()
	}
	var ls []LoopbackAt
	for item := range strings.SplitSeq(ports, ",") {
		given, host, mapped := strings.Cut(item, "=")
		if l.PortLo, l.PortHi, err = parsePorts(given); err != nil {
			return nil, err
		}
		l.HostPort = 0
		if mapped {
			if l.HostPort, err = parsePort(host); err != nil {
				return nil, err
			}
		}
		if l.HostPort == l.PortLo {
			l.HostPort = 0 // the same, said once more
		}
		if err := l.validate(); err != nil {
			return nil, err
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// String returns the LoopbackAt in the form that ParseLoopback reads: no "/any",
// brackets only where needed.
func (l LoopbackAt) String() string {
	s := addrPorts(l.Addr.String(), l.Addr.Is6(), l.PortLo, l.PortHi)
	if l.HostPort != 0 {
		s += "=" + strconv.Itoa(int(l.HostPort))
	}
	if l.Proto != Any {
		s += "/" + l.Proto.String()
	}
	return s
}

func (l LoopbackAt) validate() error {
	const maxPort = 1<<16 - 1
	switch {
	case l.Host.IsValid() && (l.Host.Is4() != l.Addr.Is4() || l.Host.Is4In6() || l.Host.IsUnspecified() || l.Host.IsMulticast() || l.Host.Zone() != ""):
		return fmt.Errorf("%s cannot lead to %s: want an address of the host of the same family", l.Addr, l.Host)
	case l.Addr.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6 notation: write it as %s", l.Addr, l.Addr.Unmap())
	case l.Proto > UDP:
		return fmt.Errorf("protocol %v: want tcp, udp or any", l.Proto)
	case l.HostPort != 0 && l.PortHi == 0:
		return fmt.Errorf("the host's port %d is given for no port", l.HostPort)
	case int(l.HostPort)+int(l.PortHi)-int(l.PortLo) > maxPort:
		return fmt.Errorf("ports %d-%d lead beyond port %d, from %d on", l.PortLo, l.PortHi, maxPort, l.HostPort)
	}
	return checkPorts(l.PortLo, l.PortHi)
}

// leadsTo reports whether something at that address of the host is what Addr leads to.
func (l *LoopbackAt) leadsTo(host netip.Addr) bool {
	if l.Host.IsValid() {
		return l.Host == host
	}
	return host.IsLoopback() && l.Addr.Is4() == host.Is4()
}

// whole reports whether all ports of the address lead to the host's loopback.
func (l *LoopbackAt) whole() bool { return l.PortHi == 0 }

// dial returns the port of the host that a port leads to, of a protocol that may
// have none; ok is false where it leads nowhere.
func (l *LoopbackAt) dial(proto uint8, port uint16) (host uint16, ok bool) {
	if !l.Proto.has(proto) || !inPorts(l.PortLo, l.PortHi, proto, port) {
		return 0, false
	}
	if l.HostPort == 0 {
		return port, true
	}
	return l.HostPort + (port - l.PortLo), true
}

// seen returns the port that leads to the host's; ok is false where none does.
func (l *LoopbackAt) seen(proto uint8, host uint16) (port uint16, ok bool) {
	port = host
	if l.HostPort != 0 {
		port = host - l.HostPort + l.PortLo // modulo 65536, as what is beyond is not in the range
		if host < l.HostPort {
			return 0, false
		}
	}
	if _, ok := l.dial(proto, port); !ok {
		return 0, false
	}
	return port, true
}

// overlaps reports whether both say where one port is to lead.
func (l *LoopbackAt) overlaps(m *LoopbackAt) bool {
	return l.Addr == m.Addr && l.Proto.overlaps(m.Proto) &&
		(l.whole() || m.whole() || l.PortLo <= m.PortHi && m.PortLo <= l.PortHi)
}
