// SPDX-License-Identifier: Apache-2.0

package policy

import "fmt"

// A Reason says which part of the policy made a Decision. It is small and dense,
// so that an array of NumReasons counters can be indexed by it.
type Reason uint8

// The reasons.
const (
	Default         Reason = iota // allowed: nothing speaks against it
	RuleAllow                     // allowed by a rule
	RuleDeny                      // denied by a rule
	HostLoopback                  // allowed: mapped to the host's loopback
	HostSocket                    // allowed: mapped to a Unix socket of the host
	HostLoopbackOff               // denied: the gateway, or an address like it, where nothing of the host is mapped
	NoSuchHost                    // denied: nobody has this address of the plan's networks
	NoSuchService                 // denied: we offer nothing at this port
	LinkLocal                     // denied: link-local network
	Metadata                      // denied: metadata service of a cloud
	Loopback                      // denied: would reach the host's loopback
	Mapped                        // denied: IPv4 address inside an IPv6 one
	Unspecified                   // denied: 0.0.0.0/8 or ::
	Multicast                     // denied: multicast
	Broadcast                     // denied: limited or directed broadcast
	Reserved                      // denied: 240.0.0.0/4
	FamilyOff                     // denied: the plan has no such family
	Invalid                       // denied: not an address, or one with a zone

	// NumReasons is how many reasons there are.
	NumReasons = int(Invalid) + 1
)

// String returns the reason as a counter label: lower case with hyphens.
func (r Reason) String() string {
	switch r {
	case Default:
		return "default"
	case RuleAllow:
		return "rule-allow"
	case RuleDeny:
		return "rule-deny"
	case HostLoopback:
		return "host-loopback"
	case HostSocket:
		return "host-socket"
	case HostLoopbackOff:
		return "host-loopback-off"
	case NoSuchHost:
		return "no-such-host"
	case NoSuchService:
		return "no-such-service"
	case LinkLocal:
		return "link-local"
	case Metadata:
		return "metadata"
	case Loopback:
		return "loopback"
	case Mapped:
		return "v4-mapped"
	case Unspecified:
		return "unspecified"
	case Multicast:
		return "multicast"
	case Broadcast:
		return "broadcast"
	case Reserved:
		return "reserved"
	case FamilyOff:
		return "family-off"
	case Invalid:
		return "invalid"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// An Answer is what the container should see of a refusal, in terms of ICMP.
type Answer uint8

// The answers.
const (
	AnswerNone            Answer = iota // not refused: nothing to answer
	AnswerSilence                       // no answer at all (RFC 1122 §3.2.2: never an error for multicast or broadcast)
	AnswerNetUnreachable                // ICMP 3/0, ICMPv6 1/0 (no route)
	AnswerHostUnreachable               // ICMP 3/1, ICMPv6 1/3
	AnswerAdminProhibited               // ICMP 3/13, ICMPv6 1/1
	AnswerPortUnreachable               // ICMP 3/3, ICMPv6 1/4; a RST to TCP
)

// String returns the answer's name: lower case with hyphens.
func (a Answer) String() string {
	switch a {
	case AnswerNone:
		return "none"
	case AnswerSilence:
		return "silence"
	case AnswerNetUnreachable:
		return "net-unreachable"
	case AnswerHostUnreachable:
		return "host-unreachable"
	case AnswerAdminProhibited:
		return "admin-prohibited"
	case AnswerPortUnreachable:
		return "port-unreachable"
	}
	return fmt.Sprintf("answer(%d)", uint8(a))
}

// Answer returns what to answer to traffic refused for this reason, and
// AnswerNone for a reason that allows. Errors are chosen so that an application
// fails at once, as it would behind a router: what cannot be routed is
// net-unreachable, what we forbid is prohibited, and our own addresses behave
// like a host with closed ports.
func (r Reason) Answer() Answer {
	switch r {
	case Default, RuleAllow, HostLoopback, HostSocket:
		return AnswerNone
	case RuleDeny, LinkLocal, Metadata:
		return AnswerAdminProhibited
	case HostLoopbackOff, NoSuchService:
		return AnswerPortUnreachable
	case NoSuchHost:
		return AnswerHostUnreachable
	case Multicast, Broadcast, Invalid:
		return AnswerSilence
	}
	return AnswerNetUnreachable
}
