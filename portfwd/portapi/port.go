// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/slipway-net/slipway/portfwd"
)

// A Port is one published port.
type Port struct {
	// ID names it, from 1, and is not used again.
	ID int `json:"id"`
	// Spec is what was asked for, with the port that was chosen.
	Spec Spec `json:"spec"`
	// Rule stands for it, in the form that portfwd.ParseRule reads.
	Rule string `json:"rule"`
	// Proto is "tcp" or "udp".
	Proto string `json:"proto"`
	// Host is where it is published. The address is absent for every address of both
	// families.
	Host string `json:"host"`
	// Container is where it leads. The address is absent for the plan's.
	Container string `json:"container"`
	// Auto means that it follows a service of the container's.
	Auto bool `json:"auto,omitempty"`
}

// portOf returns a port as the API shows it, which was asked for by spec if that is
// not nil.
func portOf(p portfwd.Port, spec *Spec) Port {
	out := Port{ID: p.ID, Spec: specOf(p), Rule: p.String(), Proto: string(p.Proto), Host: addrPort(p.Host), Container: addrPort(p.Container), Auto: p.Auto}
	if spec != nil {
		out.Spec = *spec
		out.Spec.ParentPort = int(p.Host.Port())
	}
	return out
}

// addrPort writes an end; the address may be the zero one.
func addrPort(a netip.AddrPort) string {
	if !a.Addr().IsValid() {
		return fmt.Sprintf(":%d", a.Port())
	}
	return a.String()
}

// find returns the IDs of the ports that were published by the rule.
func find(r portfwd.Rule, ports []portfwd.Port) ([]int, error) {
	if r.HostPort == 0 {
		return nil, fmt.Errorf("rule %s has no port of the host: name the port by its ID", r)
	}
	ids := make([]int, r.Count)
	for _, p := range ports {
		i := int(p.Host.Port()) - int(r.HostPort)
		if i >= 0 && i < len(ids) && p.Rule() == nth(r, i) {
			ids[i] = p.ID
		}
	}
	if i := slices.Index(ids, 0); i >= 0 {
		return nil, fmt.Errorf("rule %s: %w by it", nth(r, i), portfwd.ErrNoPort)
	}
	return ids, nil
}

// nth returns the rule for the port number i of r, from 0.
func nth(r portfwd.Rule, i int) portfwd.Rule {
	r.HostPort, r.ContainerPort, r.Count = r.HostPort+uint16(i), r.ContainerPort+uint16(i), 1
	return r
}
