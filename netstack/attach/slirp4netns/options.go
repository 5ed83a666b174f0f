// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import "github.com/slipway-net/slipway/netstack/attach/getopt"

// DefaultMTU is the MTU of the container's interface where --mtu is not given.
const DefaultMTU = 1500

// Values of --netns-type and --target-type.
const (
	typePID   = "pid"
	typePath  = "path"
	typeTapFD = "tapfd"
	typeNetNS = "netns"
	typeBESS  = "bess"
)

// An Action is what a command line asks for.
type Action int

// The actions.
const (
	Attach  Action = iota // carry a network
	Help                  // write the help
	Version               // write the version
)

// Options are what a command line says. They are a plain value, as Parse returns it.
type Options struct {
	Action Action
	// Warnings are lines for standard output, in the order of the options that
	// caused them. They are also there where Parse returns an error.
	Warnings []string

	// Configure sets lo and the interface up, with addresses and default routes.
	Configure bool
	// ExitFD and ReadyFD are descriptors, -1 for none.
	ExitFD, ReadyFD int
	// MTU in bytes.
	MTU int
	// IPv6 switches that on.
	IPv6 bool
	// APISocket is the path of the socket to take requests at; empty for none.
	APISocket string
	// CIDR is the IPv4 network, as it was written.
	CIDR string
	// NoHostLoopback keeps the container from 127.0.0.1 of the host.
	NoHostLoopback bool
	// NoDNS leaves the resolver's address unanswered.
	NoDNS bool
	// Sandbox and Seccomp confine the process.
	Sandbox, Seccomp bool
	// Outbound4 and Outbound6 are an address or an interface of the host, as it
	// was written; empty for none.
	Outbound4, Outbound6 string
	// MAC is the hardware address of the interface, as it was written; empty for
	// a random one.
	MAC string

	// PID is a process in the network namespace; 0 where another field names the
	// target.
	PID int
	// NetNS is the path of the network namespace.
	NetNS string
	// UserNS is the path of the user namespace to enter on the way; empty for the
	// owner of the network namespace.
	UserNS string
	// TapFD is an open tap; -1 for none.
	TapFD int
	// BESS is the path of the socket to wait for a client at, who sends and takes
	// frames; empty for none.
	BESS string
	// TapName is the interface's name; empty where the target is no namespace.
	TapName string

	netnsType, targetType string
	operands              []string
}

// specs are the options, in the order in which messages of getopt_long(3) name
// them.
func specs() []getopt.Spec {
	return []getopt.Spec{
		{Long: "configure", Short: 'c'},
		{Long: "exit-fd", Short: 'e', Value: true},
		{Long: "ready-fd", Short: 'r', Value: true},
		{Long: "mtu", Short: 'm', Value: true},
		{Long: "cidr", Value: true},
		{Long: "disable-host-loopback"},
		{Long: "no-host-loopback"},
		{Long: "netns-type", Value: true},
		{Long: "userns-path", Value: true},
		{Long: "api-socket", Short: 'a', Value: true},
		{Long: "enable-ipv6", Short: '6'},
		{Long: "enable-sandbox"},
		{Long: "create-sandbox"},
		{Long: "enable-seccomp"},
		{Long: "help", Short: 'h'},
		{Long: "version", Short: 'v'},
		{Long: "outbound-addr", Value: true},
		{Long: "outbound-addr6", Value: true},
		{Long: "disable-dns"},
		{Long: "macaddress", Value: true},
		{Long: "target-type", Value: true},
	}
}
