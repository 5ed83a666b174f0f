// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Port is one port of the host that leads to one of the container (portMappings of
// CONVENTIONS.md).
type Port struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // "tcp", where empty, or "udp"
	HostIP        string `json:"hostIP"`   // every address, where empty
}

const maxPort = 1<<16 - 1

func (p Port) check() error {
	for key, port := range map[string]int{"hostPort": p.HostPort, "containerPort": p.ContainerPort} {
		if port < 1 || port > maxPort {
			return invalid("portMappings: %s %d: want 1 to %d", key, port, maxPort)
		}
	}
	if proto := p.proto(); proto != "tcp" && proto != "udp" {
		return unsupported("portMappings: protocol", p.Protocol, "want tcp or udp")
	}
	if p.HostIP != "" {
		if a, err := netip.ParseAddr(p.HostIP); err != nil || a.Zone() != "" {
			return invalid("portMappings: hostIP %q: want an IP address", p.HostIP)
		}
	}
	return nil
}

func (p Port) proto() string { return cmp.Or(strings.ToLower(p.Protocol), "tcp") }

// A run is as many ports from one on.
type run struct {
	Port
	count int
}

// PublishRules returns the ports as rules of `slipway attach --publish`, with what goes
// on in a row in one: runtimes write out ranges, and 60000 arguments do not fit into a
// command line. What is asked for twice is published once.
func PublishRules(ports []Port) []string {
	ports = slices.Clone(ports)
	for i := range ports {
		ports[i].Protocol = ports[i].proto()
	}
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.HostIP, b.HostIP), cmp.Compare(a.Protocol, b.Protocol),
			cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.ContainerPort, b.ContainerPort))
	})
	ports = slices.Compact(ports)
	var runs []run
	for _, p := range ports {
		if n := len(runs); n > 0 && runs[n-1].goesOn(p) {
			runs[n-1].count++
			continue
		}
		runs = append(runs, run{p, 1})
	}
	rules := make([]string, len(runs))
	for i, r := range runs {
		rules[i] = r.rule()
	}
	return rules
}

func (r run) goesOn(p Port) bool {
	return p.HostIP == r.HostIP && p.Protocol == r.Protocol &&
		p.HostPort == r.HostPort+r.count && p.ContainerPort == r.ContainerPort+r.count
}

func (r run) rule() string {
	host := ""
	if a, err := netip.ParseAddr(r.HostIP); err == nil {
		host = a.Unmap().String() + ":"
		if a.Unmap().Is6() {
			host = "[" + a.String() + "]:"
		}
	}
	return fmt.Sprintf("%s%s:%s/%s", host, ports(r.HostPort, r.count), ports(r.ContainerPort, r.count), r.Protocol)
}

func ports(first, count int) string {
	if count == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, first+count-1)
}
