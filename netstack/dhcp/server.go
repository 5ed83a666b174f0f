// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/slipway-net/slipway/tap"
)

const (
	// LeaseTime is how long an address is bound: slirp4netns' lease, a day.
	LeaseTime = 24 * time.Hour
	// preferredTime is how long a DHCPv6 address is preferred: what the router
	// advertisement says of the SLAAC one.
	preferredTime = 4 * time.Hour
	// offerTime is how long an offered address is kept for the client.
	offerTime = time.Minute
	// maxRequest is the largest request that is read, bytes. Real ones have a
	// few hundred; RFC 2131 §2 makes 576 the least a server must take.
	maxRequest = 1500
)

// Bounds on the domain search list, which in DHCPv4 goes into one option (RFC
// 3397 §2, RFC 2132 §2: a length is one byte).
const (
	maxSearchLen = 255 // bytes on the wire
	maxLabel     = 63  // RFC 1035 §2.3.4
	maxName      = 253 // RFC 1035 §2.3.4, as text without the final dot
)

// ethernetLen is the length of an Ethernet hardware address, bytes.
const ethernetLen = 6

// minMTU is the least MTU that DHCPv4 can announce (RFC 2132 §5.1).
const minMTU = 68

// A Config says what clients are told. A family that the plan has switched off
// gets no replies.
type Config struct {
	// Plan is the container's address plan.
	Plan tap.Plan
	// MTU is announced by DHCPv4, bytes; 0 announces none. DHCPv6 cannot.
	MTU int
	// ServerMAC is our hardware address, from which the DHCPv6 server's DUID is
	// made.
	ServerMAC net.HardwareAddr
	// Search is the domain search list. What is not a domain name or does not
	// fit into maxSearchLen bytes is left out.
	Search []string
	// DNS is whether to announce the plan's resolver.
	DNS bool
	// Log takes leases at debug level. Default: none.
	Log *slog.Logger
}

// A Server answers DHCP requests. It must not be used by two goroutines at a
// time. Make one with New.
type Server struct {
	cfg    Config
	log    *slog.Logger
	search []string
	duid   []byte
	pool4  pool
	pool6  pool
}

// New returns a Server with all addresses free.
func New(c Config) (*Server, error) {
	if c.Plan.V6.Enabled() && len(c.ServerMAC) != ethernetLen {
		return nil, fmt.Errorf("set up dhcp: hardware address %q: want one of %d bytes", c.ServerMAC, ethernetLen)
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > 65535) {
		return nil, fmt.Errorf("set up dhcp: MTU %d: want %d to 65535", c.MTU, minMTU)
	}
	s := &Server{
		cfg:    c,
		log:    c.Log,
		search: searchList(c.Search),
		duid:   duidOf(c.ServerMAC),
		pool4:  newPool(c.Plan.V4),
		pool6:  newPool(c.Plan.V6),
	}
	s.cfg.ServerMAC = slices.Clone(c.ServerMAC)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s, nil
}

// searchList returns the names that can be told to clients, without final dots.
func searchList(names []string) []string {
	var list []string
	size := 0
	for _, n := range names {
		n = strings.TrimSuffix(n, ".")
		wire := len(n) + 2 // the first label's length and the root
		if !isName(n) || size+wire > maxSearchLen {
			continue
		}
		size += wire
		list = append(list, n)
	}
	return list
}

func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for l := range strings.SplitSeq(s, ".") {
		if l == "" || len(l) > maxLabel {
			return false
		}
	}
	return true
}

// addrOf returns the address in ip, the zero Addr if it is not of the length.
func addrOf(ip net.IP, length int) netip.Addr {
	if length == net.IPv4len {
		ip = ip.To4()
	}
	if len(ip) != length {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	return a
}
