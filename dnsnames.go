// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/tap"
)

const (
	// maxNames bounds the names of a container: each query is compared with all.
	maxNames = 64
	// maxNameLen is the length of a name in text (RFC 1035 §2.3.4).
	maxNameLen = 253
)

// localNames returns what answers for names of the container itself with its addresses,
// or nil where there are none. Names are compared without regard to case (RFC 4343).
func localNames(names []string, plan tap.Plan) (func(string) []netip.Addr, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if len(names) > maxNames {
		return nil, fmt.Errorf("%w: %d times --dns-name: want at most %d", errUsage, len(names), maxNames)
	}
	known := make([]string, len(names))
	for i, n := range names {
		known[i] = strings.ToLower(strings.TrimSuffix(n, "."))
		if known[i] == "" || len(known[i]) > maxNameLen || strings.ContainsFunc(known[i], notInName) {
			return nil, fmt.Errorf("%w: --dns-name %.80q: want a name such as db", errUsage, n)
		}
	}
	var own []netip.Addr
	for _, f := range plan.Families() {
		own = append(own, f.Container)
	}
	return func(name string) []netip.Addr {
		if slices.Contains(known, strings.ToLower(name)) {
			return own
		}
		return nil
	}, nil
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
}
