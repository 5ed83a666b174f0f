// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxSocketPath is the longest path of a Unix socket (bytes): sun_path of unix(7)
// has 108, of which a zero byte takes one.
const maxSocketPath = 107

// A SocketAt says that one TCP port of the container's side leads to a Unix stream
// socket of the host. It is a plain value; the zero SocketAt is not valid.
type SocketAt struct {
	// Addr is an address of the plan's networks, the zero Addr stands for the
	// gateways of all families.
	Addr netip.Addr
	Port uint16
	// Path is absolute, and looked up anew for each connection.
	Path string
}

// ParseSocket reads what follows --host-socket:
//
//	[ADDR:]PORT=PATH
//
// An IPv6 address is written in brackets. All that follows the first = is PATH.
func ParseSocket(s string) (SocketAt, error) {
	k, err := parseSocket(s)
	if err != nil {
		return SocketAt{}, fmt.Errorf("host socket %q: %w", s, err)
	}
	return k, nil
}

func parseSocket(s string) (SocketAt, error) {
	at, path, ok := strings.Cut(s, "=")
	if !ok {
		return SocketAt{}, fmt.Errorf("want [ADDR:]PORT=PATH, such as 5432=/run/postgresql/.s.PGSQL.5432")
	}
	k := SocketAt{Path: path}
	addr, port, err := splitPorts(at)
	if err != nil {
		return SocketAt{}, err
	}
	switch {
	case port != "":
		if k.Addr, err = parseAddr(addr); err != nil {
			return SocketAt{}, err
		}
	case strings.ContainsAny(at, ".:"):
		return SocketAt{}, fmt.Errorf("no port in %q: want ADDR:PORT, or [ADDR]:PORT for IPv6", at)
	default:
		port = at
	}
	if k.Port, err = parsePort(port); err != nil {
		return SocketAt{}, err
	}
	return k, k.validate()
}

// String returns the SocketAt in the form that ParseSocket reads.
func (k SocketAt) String() string {
	at := strconv.Itoa(int(k.Port))
	if k.Addr.IsValid() {
		at = netip.AddrPortFrom(k.Addr, k.Port).String()
	}
	return at + "=" + k.Path
}

func (k SocketAt) validate() error {
	switch {
	case k.Port == 0:
		return fmt.Errorf("port 0 is not a port")
	case k.Addr.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6 notation: write it as %s", k.Addr, k.Addr.Unmap())
	case !strings.HasPrefix(k.Path, "/"):
		return fmt.Errorf("path %q is not absolute: begin it with a slash", k.Path)
	case strings.ContainsRune(k.Path, 0):
		return fmt.Errorf("path %q has a zero byte in it", k.Path)
	case len(k.Path) > maxSocketPath:
		return fmt.Errorf("path %q has %d bytes, and that of a socket at most %d: link to it from a shorter one", k.Path, len(k.Path), maxSocketPath)
	}
	return nil
}
