// SPDX-License-Identifier: Apache-2.0

package neighbor

import (
	"encoding/binary"
	"strings"
	"time"
)

// Times of router advertisements (RFC 4861 §6.2.1, §10).
const (
	// MinInterval and MaxInterval bound the random time between two unsolicited
	// advertisements: slirp4netns' figures, and a third to one of the default.
	MinInterval = 200 * time.Second
	MaxInterval = 600 * time.Second
	// InitialInterval bounds the time between the first InitialAdverts.
	InitialInterval = 16 * time.Second
	InitialAdverts  = 3
	// routerLifetime is AdvDefaultLifetime: three times MaxInterval. RFC 8106
	// §5.1 makes the same of the resolver's.
	routerLifetime = 3 * MaxInterval
	// Of addresses from the prefix: slirp4netns' figures.
	validLifetime     = 24 * time.Hour
	preferredLifetime = 4 * time.Hour
)

// A router advertisement: length before the options, bytes, and values (RFC 4861
// §4.2).
const (
	advertLen       = 16
	advertHopLimit  = 64   // for what the container sends
	flagOther       = 0x40 // DHCPv6 has other configuration
	optPrefix       = 3    // RFC 4861 §4.6.2
	flagOnLink      = 0x80
	flagAutonomous  = 0x40
	optMTU          = 5  // RFC 4861 §4.6.4
	optRDNSS        = 25 // RFC 8106 §5.1
	optDNSSL        = 31 // RFC 8106 §5.2
	minMTU6         = 1280
	maxSearchLen    = 1024 // bytes on the wire: the whole must fit into minMTU6
	maxLabel        = 63   // RFC 1035 §2.3.4
	maxName         = 253  // RFC 1035 §2.3.4, as text without the final dot
	prefixLenOption = 4    // in units, as the next
	rdnssLenOption  = 3
)

// advert returns the router advertisement of c with a checksum of zero.
func advert(c Config) []byte {
	f := c.Plan.V6
	b := make([]byte, advertLen)
	b[0] = typeRouterAdvert
	b[4] = advertHopLimit
	if c.RDNSS {
		b[5] = flagOther
	}
	binary.BigEndian.PutUint16(b[6:], uint16(routerLifetime/time.Second))

	b = append(b, optPrefix, prefixLenOption, byte(f.Prefix.Bits()), flagOnLink|flagAutonomous)
	b = appendSeconds(b, validLifetime)
	b = appendSeconds(b, preferredLifetime)
	b = append(b, 0, 0, 0, 0)
	b = append(b, f.Prefix.Addr().AsSlice()...)

	b = append(b, optSourceMAC, macOptionLen/optionUnit)
	b = append(b, c.MAC...)
	if c.MTU != 0 {
		b = append(b, optMTU, 1, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(c.MTU))
	}
	if c.RDNSS && f.DNS.IsValid() {
		b = append(b, optRDNSS, rdnssLenOption, 0, 0)
		b = appendSeconds(b, routerLifetime)
		b = append(b, f.DNS.AsSlice()...)
	}
	if names := encodeNames(c.Search); len(names) > 0 {
		units := (optionUnit + len(names) + optionUnit - 1) / optionUnit
		b = append(b, optDNSSL, byte(units), 0, 0)
		b = appendSeconds(b, routerLifetime)
		b = append(b, names...)
		b = append(b, make([]byte, (units-1)*optionUnit-len(names))...)
	}
	return b
}

func appendSeconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(d/time.Second))
}

// encodeNames returns the domain names one after the other (RFC 1035 §3.1).
func encodeNames(names []string) []byte {
	var b []byte
	for _, n := range names {
		n = strings.TrimSuffix(n, ".")
		wire := len(n) + 2 // the first label's length and the root
		if n == "" || len(n) > maxName || len(b)+wire > maxSearchLen {
			continue
		}
		labels := strings.Split(n, ".")
		start := len(b)
		for _, l := range labels {
			if l == "" || len(l) > maxLabel {
				b = b[:start]
				break
			}
			b = append(append(b, byte(len(l))), l...)
		}
		if len(b) > start {
			b = append(b, 0)
		}
	}
	return b
}
