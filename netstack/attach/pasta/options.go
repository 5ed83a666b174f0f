// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"net"
	"net/netip"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/getopt"
	"github.com/slipway-net/slipway/tap"
)

// DefaultMTU is the MTU of the container's interface where --mtu is not given.
const DefaultMTU = 65520

// Bounds of --log-size in bytes: the least that is worth having, and the default.
const (
	minLogSize     = 64 << 10
	DefaultLogSize = 1 << 20
)

// An Action is what a command line asks for.
type Action int

// The actions.
const (
	Attach  Action = iota // carry the network of a namespace that is there
	Spawn                 // make namespaces, carry their network, and run a command in them
	Help                  // write the help
	Version               // write the version
)

// A Verbosity is how much is logged.
type Verbosity int

// The verbosities: --quiet, the default, --debug and --trace.
const (
	Quiet Verbosity = iota - 1
	Normal
	Debug
)

// Options are what a command line says. They are a plain value, as Parse returns it.
type Options struct {
	Action Action
	// Target is the namespace of Attach.
	Target tap.Target
	// KeepOpen goes on when the namespace's path is gone (--no-netns-quit).
	KeepOpen bool
	// Command is what Spawn runs; empty means a shell.
	Command []string
	// NetNSOnly makes no user namespace for Spawn.
	NetNSOnly bool
	// Hostname is that of the namespaces that Spawn makes; empty for the default.
	Hostname string

	// Foreground does not leave the caller.
	Foreground bool
	// PIDFile and PcapFile are paths; empty for none.
	PIDFile, PcapFile string
	// LogFile is the path of the log; empty for the system's. It grows to LogSize
	// bytes.
	LogFile   string
	LogSize   int64
	Verbosity Verbosity
	// RunAs is whom to become, as it was written; empty for who we are.
	RunAs string

	// Configure sets lo and the interface up, with addresses and routes.
	Configure bool
	// IfName is the name of the container's interface; empty for that of the host's.
	IfName string
	// MAC is its hardware address; nil for a random one.
	MAC net.HardwareAddr
	// MTU in bytes.
	MTU int
	// Without lists what is switched off.
	Without netstack.Without
	// NoSplice keeps TCP in the tap.
	NoSplice bool

	only            familyOf // both by default
	addresses       perFamily[netip.Prefix]
	netmask         int // of IPv4, in bits; -1 for none
	gateways        perFamily[netip.Addr]
	outbound        perFamily[netip.Addr]
	outboundIf      perFamily[string]
	template        string // the host's interface to copy
	dns, dnsHosts   []netip.Addr
	dnsForward      perFamily[netip.Addr]
	noMapGW         bool
	mapHostLoopback mapping
	mapGuest        mapping
	ports           [protocols]ports // published, TCP and UDP
	hostPorts       [protocols]ports // of the host's loopback
	netns, userns   string
	netnsNamed      bool
}

// HostPorts returns the ports of the container's loopback that lead to the host's.
func (o Options) HostPorts() []attach.HostPort { return o.hostPorts[tcp].host }

// A familyOf is one address family, or both.
type familyOf int

const (
	both familyOf = iota
	four
	six
)

// of returns the family of an address.
func of(a netip.Addr) familyOf {
	if a.Is4() {
		return four
	}
	return six
}

// perFamily has a value for IPv4 and one for IPv6.
type perFamily[T any] struct {
	v4, v6 T
}

// at returns the place of a family's value.
func (p *perFamily[T]) at(f familyOf) *T {
	if f == four {
		return &p.v4
	}
	return &p.v6
}

// A mapping is an address of the container's side for something of the host, per
// family: the default's, none, or the one that is given.
type mapping struct {
	none  bool
	given perFamily[netip.Addr]
}

// specs are the options, in the order in which messages of getopt_long(3) name them.
func specs() []getopt.Spec {
	return []getopt.Spec{
		{Long: "debug", Short: 'd'}, {Long: "quiet", Short: 'q'}, {Long: "foreground", Short: 'f'},
		{Long: "stderr", Short: 'e'}, {Long: "log-file", Short: 'l', Value: true},
		{Long: "help", Short: 'h'}, {Long: "socket", Short: 's', Value: true}, {Long: "fd", Short: 'F', Value: true},
		{Long: "ns-ifname", Short: 'I', Value: true}, {Long: "pcap", Short: 'p', Value: true},
		{Long: "pid", Short: 'P', Value: true}, {Long: "mtu", Short: 'm', Value: true},
		{Long: "address", Short: 'a', Value: true}, {Long: "netmask", Short: 'n', Value: true},
		{Long: "mac-addr", Short: 'M', Value: true}, {Long: "gateway", Short: 'g', Value: true},
		{Long: "interface", Short: 'i', Value: true}, {Long: "outbound", Short: 'o', Value: true},
		{Long: "dns", Short: 'D', Value: true}, {Long: "search", Short: 'S', Value: true},
		{Long: "hostname", Short: 'H', Value: true}, {Long: "fqdn", Value: true},
		{Long: "no-tcp"}, {Long: "no-udp"}, {Long: "no-icmp"}, {Long: "no-dhcp"}, {Long: "no-dhcpv6"},
		{Long: "no-ndp"}, {Long: "no-ra"}, {Long: "no-splice"}, {Long: "splice-only"}, {Long: "freebind"},
		{Long: "no-map-gw"}, {Long: "ipv4-only", Short: '4'}, {Long: "ipv6-only", Short: '6'}, {Long: "one-off", Short: '1'},
		{Long: "tcp-ports", Short: 't', Value: true}, {Long: "udp-ports", Short: 'u', Value: true},
		{Long: "tcp-ns", Short: 'T', Value: true}, {Long: "udp-ns", Short: 'U', Value: true},
		{Long: "userns", Value: true}, {Long: "netns", Value: true}, {Long: "ns-mac-addr", Value: true},
		{Long: "dhcp-dns"}, {Long: "no-dhcp-dns"}, {Long: "dhcp-search"}, {Long: "no-dhcp-search"},
		{Long: "dns-forward", Value: true}, {Long: "dns-host", Value: true}, {Long: "no-netns-quit"},
		{Long: "trace"}, {Long: "stats", Value: true}, {Long: "runas", Value: true}, {Long: "log-size", Value: true},
		{Long: "version"}, {Long: "outbound-if4", Value: true}, {Long: "outbound-if6", Value: true},
		{Long: "config-net"}, {Long: "no-copy-routes"}, {Long: "no-copy-addrs"}, {Long: "netns-only"},
		{Long: "map-host-loopback", Value: true}, {Long: "map-guest-addr", Value: true},
		{Long: "host-lo-to-ns-lo"}, {Long: "chroot-fallback"}, {Long: "conf-path", Short: 'c', Value: true},
	}
}

// unsupported says of options why they are refused.
func unsupported(long string) string {
	const passt = "it is for virtual machines, which are passt's business"
	return map[string]string{
		"socket": passt, "fd": passt, "one-off": passt,
		"no-dhcp-dns": passt, "no-dhcp-search": passt,
		"conf-path":   "ports can be changed through --api of slipway attach",
		"stats":       "slipway flows and the metrics of slipway attach --api tell more",
		"mac-addr":    "our hardware address follows from the gateway's address",
		"freebind":    "publish at an address that the host has",
		"splice-only": "there is always an interface; --host-loopback of slipway attach opens single ports",
	}[long]
}
