// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Ports are bounded by two numbers, both included, of which 0 and 0 stand for all
// ports and for protocols that have none.

// inPorts reports whether a port of a protocol lies within the bounds.
func inPorts(lo, hi uint16, proto uint8, port uint16) bool {
	if hi == 0 {
		return true
	}
	return hasPorts(proto) && lo <= port && port <= hi
}

// hasPorts reports whether an IP protocol has ports.
func hasPorts(proto uint8) bool { return proto == ipProtoTCP || proto == ipProtoUDP }

func checkPorts(lo, hi uint16) error {
	switch {
	case lo > hi:
		return fmt.Errorf("port range %d-%d runs backwards", lo, hi)
	case lo == 0 && hi != 0:
		return fmt.Errorf("port 0 is not a port")
	}
	return nil
}

// addrPorts writes an address or network with its ports, if it has any, in the form
// that splitPorts reads.
func addrPorts(addr string, v6 bool, lo, hi uint16) string {
	if hi == 0 {
		return addr
	}
	if v6 {
		addr = "[" + addr + "]"
	}
	s := addr + ":" + strconv.Itoa(int(lo))
	if hi != lo {
		s += "-" + strconv.Itoa(int(hi))
	}
	return s
}

// splitPorts takes the ports off the end of "CIDR:PORTS" or "[CIDR]:PORTS".
func splitPorts(s string) (cidr, ports string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		cidr, after, ok := strings.Cut(inner, "]")
		if !ok {
			return "", "", fmt.Errorf("missing ]")
		}
		if !strings.Contains(cidr, ":") {
			return "", "", fmt.Errorf("brackets are for IPv6 networks")
		}
		if after == "" {
			return cidr, "", nil
		}
		ports, ok := strings.CutPrefix(after, ":")
		if !ok || ports == "" {
			return "", "", fmt.Errorf("want :PORTS after ], not %q", after)
		}
		return cidr, ports, nil
	}
	// An IPv6 address has at least two colons, an IPv4 one none.
	if strings.Count(s, ":") != 1 {
		return s, "", nil
	}
	cidr, ports, _ = strings.Cut(s, ":")
	if ports == "" {
		return "", "", fmt.Errorf("no ports after the colon")
	}
	return cidr, ports, nil
}

func parsePorts(s string) (lo, hi uint16, err error) {
	los, his, ranged := strings.Cut(s, "-")
	if lo, err = parsePort(los); err != nil {
		return 0, 0, err
	}
	if !ranged {
		return lo, lo, nil
	}
	if hi, err = parsePort(his); err != nil {
		return 0, 0, err
	}
	return lo, hi, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q is not a number from 1 to 65535", s)
	}
	return uint16(n), nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("address %q is not an IP address (an IPv6 address with ports is written [ADDRESS]:PORTS)", s)
	}
	if a.Zone() != "" {
		return a, fmt.Errorf("address %q has a zone: leave out %%%s", s, a.Zone())
	}
	return a, nil
}
