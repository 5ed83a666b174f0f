// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"encoding/binary"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// Sizes in DHCPv6 messages, bytes (RFC 8415 §8, §21).
const (
	header6    = 4   // type and transaction id
	option6    = 4   // code and length of an option
	fixedIANA  = 12  // before the options in an IA_NA
	fixedAddr  = 24  // before the options in an IA address
	maxDUID    = 130 // §11.1: 128 and the type
	maxOptions = 16  // options of each kind that are read at each level
)

// sieve6 returns a copy of the message with only those options that an answer
// depends on, at both levels that they have. ok is false if the message is
// malformed or no client's.
func sieve6(b []byte) (sieved []byte, ok bool) {
	if len(b) < header6 {
		return nil, false
	}
	out := append(make([]byte, 0, len(b)), b[:header6]...)
	count := 0
	ok = eachOption6(b[header6:], func(code dhcpv6.OptionCode, opt, data []byte) bool {
		switch code {
		case dhcpv6.OptionClientID, dhcpv6.OptionServerID:
			if len(data) > maxDUID {
				return false
			}
			out = append(out, opt...)
		case dhcpv6.OptionRapidCommit:
			out = append(out, opt...)
		case dhcpv6.OptionIANA:
			if count++; count > maxOptions || len(data) < fixedIANA {
				return false
			}
			var ok bool
			out, ok = sieveIANA(out, data)
			return ok
		}
		return true
	})
	return out, ok
}

// sieveIANA appends an IA_NA with its addresses, bare of options, to out.
func sieveIANA(out, data []byte) ([]byte, bool) {
	start := len(out)
	out = binary.BigEndian.AppendUint16(out, uint16(dhcpv6.OptionIANA))
	out = append(out, 0, 0)
	out = append(out, data[:fixedIANA]...)
	count := 0
	ok := eachOption6(data[fixedIANA:], func(code dhcpv6.OptionCode, _, data []byte) bool {
		if code != dhcpv6.OptionIAAddr {
			return true
		}
		if count++; count > maxOptions || len(data) < fixedAddr {
			return false
		}
		out = binary.BigEndian.AppendUint16(out, uint16(code))
		out = binary.BigEndian.AppendUint16(out, fixedAddr)
		out = append(out, data[:fixedAddr]...)
		return true
	})
	binary.BigEndian.PutUint16(out[start+2:], uint16(len(out)-start-option6))
	return out, ok
}

// eachOption6 calls f with each option, whole and its data, until f returns false.
// It reports whether all went well.
func eachOption6(b []byte, f func(code dhcpv6.OptionCode, opt, data []byte) bool) bool {
	for len(b) > 0 {
		if len(b) < option6 {
			return false
		}
		n := option6 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		if !f(dhcpv6.OptionCode(binary.BigEndian.Uint16(b)), b[:n], b[option6:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
