// SPDX-License-Identifier: Apache-2.0

package portapi

import "net/netip"

// APIVersion is the version of RootlessKit's API that this one contains: the first
// in which GET /v1/info has all that its clients look at.
const APIVersion = "1.1.1"

// Info is the reply to GET /v1/info: RootlessKit's, with what slipway has besides.
type Info struct {
	APIVersion    string        `json:"apiVersion"`
	Version       string        `json:"version"`  // of the program
	StateDir      string        `json:"stateDir"` // the socket's directory
	ChildPID      int           `json:"childPID"` // in the container; 0 where only the namespace is known
	NetworkDriver NetworkDriver `json:"networkDriver"`
	PortDriver    PortDriver    `json:"portDriver"`

	PID       int       `json:"pid"`       // the helper's
	Path      string    `json:"path"`      // that TCP is meant to take: "spliced" or "stacked"
	Interface string    `json:"interface"` // the container's
	MTU       int       `json:"mtu"`       // of that, in bytes
	Plan      []Network `json:"plan"`      // by address family, IPv4 first
}

// A NetworkDriver is how RootlessKit's clients see the container's network.
type NetworkDriver struct {
	Driver string       `json:"driver"`
	DNS    []netip.Addr `json:"dns,omitempty"`
	// ChildIP is where Docker and nerdctl listen for what is published.
	ChildIP        netip.Addr `json:"childIP"`
	DynamicChildIP bool       `json:"dynamicChildIP"`
}

// A PortDriver is how RootlessKit's clients see the published ports.
type PortDriver struct {
	Driver string   `json:"driver"`
	Protos []string `json:"protos"`
	// DisallowLoopbackChildIP makes Docker and nerdctl listen at ChildIP in place of
	// 127.0.0.1. A service there can be published as well, but what comes in from a
	// loopback address has lost its client's.
	DisallowLoopbackChildIP bool `json:"disallowLoopbackChildIP"`
}

// A Network is one address family of the container's.
type Network struct {
	CIDR      netip.Prefix `json:"cidr"`
	Gateway   netip.Addr   `json:"gateway"`
	DNS       []netip.Addr `json:"dns,omitempty"` // empty where nobody answers
	Container netip.Addr   `json:"container"`
}

// DriverName is what RootlessKit's clients are told of both drivers.
const DriverName = "slipway"
