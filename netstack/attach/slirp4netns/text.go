// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/slipway-net/slipway/netstack/attach"
)

// Compatible is the version of slirp4netns whose ways these are.
const Compatible = "1.3.2"

// HelpText is the help, and what a command line that is wrong is answered with. Podman
// and RootlessKit look for the names of options in it.
func HelpText(name string) string {
	return fmt.Sprintf(`Usage: %s [OPTION]... PID|PATH|FD [TAPNAME]
The network of a rootless container: slipway, in the place of slirp4netns.

-c, --configure          set lo and the interface up, with addresses and routes
-e, --exit-fd=FD         end when something happens at FD, such as its other end's closing
-r, --ready-fd=FD        write 1 to FD when the network is up
-m, --mtu=MTU            MTU in bytes (default=%d, max=%d)
-6, --enable-ipv6        enable IPv6
-a, --api-socket=PATH    take requests for published ports at PATH
--cidr=CIDR              IPv4 network of the container (default=10.0.2.0/24)
--disable-host-loopback  keep the container from 127.0.0.1:* of the host
--netns-type=TYPE        what the target is ([path|pid|tapfd], default=pid)
--userns-path=PATH       user namespace to enter on the way
--enable-sandbox         give up the file system and all capabilities but what is needed
--enable-seccomp         give up all system calls but what is needed
--outbound-addr=IPv4     IPv4 address, or interface, that flows leave from
--outbound-addr6=IPv6    IPv6 address, or interface, that flows leave from
--disable-dns            do not answer at 10.0.2.3 (or that of CIDR)
--macaddress=MAC         hardware address of the interface (only with -c)
--target-type=TYPE       what to connect to ([netns|bess], default=netns)
-h, --help               show this help and exit
-v, --version            show version and exit
`, name, DefaultMTU, mtuBound-1)
}

// VersionText is what --version says. It has the keys that programs read; there is
// nothing of libslirp behind them.
func VersionText(slipway string) string {
	return fmt.Sprintf(`slirp4netns version %s
commit: slipway-%s
libslirp: none
SLIRP_CONFIG_VERSION_MAX: 4
libseccomp: none
slipway: %s
This is slipway with the command line of slirp4netns.
`, Compatible, slipway, slipway)
}

// Banner is what is said before the network is up.
func (o Options) Banner(cfg attach.Config) string {
	var b strings.Builder
	f := cfg.Tap.Plan.V4
	line := func(key string, value any) { fmt.Fprintf(&b, "* %-16s %v\n", key+":", value) }
	b.WriteString("Starting slirp\n")
	line("MTU", o.MTU)
	line("Network", f.Prefix.Addr())
	line("Netmask", net.IP(net.CIDRMask(f.Prefix.Bits(), f.Prefix.Addr().BitLen())))
	line("Gateway", f.Gateway)
	line("DNS", f.DNS)
	line("DHCP begin", f.LeaseFirst)
	line("DHCP end", f.LeaseLast)
	line("Recommended IP", f.Container)
	if o.APISocket != "" {
		line("API Socket", o.APISocket)
	}
	for _, out := range []struct {
		key  string
		addr netip.Addr
	}{{"Outbound IPv4", cfg.Outbound.Addr4}, {"Outbound IPv6", cfg.Outbound.Addr6}} {
		if out.addr.IsValid() {
			fmt.Fprintf(&b, "* %s:    %v\n", out.key, out.addr)
		}
	}
	if cfg.Tap.MAC != nil {
		line("MAC address", cfg.Tap.MAC)
	}
	if !o.NoHostLoopback {
		fmt.Fprintf(&b, "WARNING: 127.0.0.1:* on the host is accessible as %v (set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)\n", f.Gateway)
	}
	return b.String()
}
