// SPDX-License-Identifier: Apache-2.0

package portfwd

import "net/netip"

// A Proto is a transport protocol whose ports can be published.
type Proto string

// The protocols.
const (
	TCP Proto = "tcp"
	UDP Proto = "udp"
)

// A Rule asks for Count ports of the host, from HostPort on, to lead to as many of
// the container's, from ContainerPort on. It is a plain value.
type Rule struct {
	Proto Proto
	// Host is the address to publish at; the zero Addr means every address of the
	// host, of both families.
	Host netip.Addr
	// Interface is the name of the host's interface to publish at; empty for any.
	Interface string
	// HostPort is the first port of the host; 0 lets the kernel choose, each by
	// itself.
	HostPort uint16
	// Container is the container's address; the zero Addr means the plan's, of the
	// client's family where the container has that.
	Container     netip.Addr
	ContainerPort uint16
	// Count is how many ports the rule is for, at least 1.
	Count uint16
	// Loopback means that the service listens at the container's loopback only.
	Loopback bool
	// Defer means that TCP clients which have sent nothing yet are not passed on
	// (TCP_DEFER_ACCEPT of tcp(7)): for services in which the client speaks first.
	Defer bool
}
