// SPDX-License-Identifier: Apache-2.0

package shape

import (
	"fmt"
	"strconv"
	"strings"
)

// units are the powers of ten that a number may have behind it.
var units = [...]struct {
	letter string
	times  uint64
}{{"k", 1e3}, {"M", 1e6}, {"G", 1e9}}

const (
	bitsPerByte = 8
	// MinRate is the least rate (bytes per second), and MaxRate the most, a terabit:
	// above that a number is a mistake.
	MinRate = 1
	MaxRate = 1e12 / bitsPerByte
)

// ParseRate reads a rate in bits per second, with k, M or G behind it for powers of ten,
// and perhaps a colon and the burst in bits in the same way: "10M", "1500k:64k".
func ParseRate(s string) (Rate, error) {
	rate, burst, bursts := strings.Cut(s, ":")
	var r Rate
	var err error
	if r.Bytes, err = parseBits(rate); err != nil {
		return Rate{}, fmt.Errorf("rate %q: %w", s, err)
	}
	if r.Bytes < MinRate || r.Bytes > MaxRate {
		return Rate{}, fmt.Errorf("rate %q: want 8 bits to a terabit per second", s)
	}
	if bursts {
		if r.Burst, err = parseBits(burst); err != nil {
			return Rate{}, fmt.Errorf("rate %q: %w", s, err)
		}
	}
	return r, nil
}

// parseBits reads a number of bits and returns the bytes.
func parseBits(s string) (uint64, error) {
	times := uint64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.letter); ok {
			s, times = n, u.times
			break
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > MaxRate*bitsPerByte/times*bitsPerByte {
		return 0, fmt.Errorf("want a number of bits such as 10M, and perhaps a burst behind a colon, such as 10M:64k")
	}
	return n * times / bitsPerByte, nil
}
