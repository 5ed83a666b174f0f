// SPDX-License-Identifier: Apache-2.0

package pasta

import "fmt"

// HelpText is the help.
func HelpText(name string) string {
	return fmt.Sprintf(`Usage: %[1]s [OPTION]... [COMMAND [ARG]...]
       %[1]s [OPTION]... PID
       %[1]s [OPTION]... --netns PATH|NAME
The network of a rootless container: slipway, in the place of pasta. Without PID or
--netns, COMMAND (or a shell) is run in a new user and network namespace.

  -d, --debug                  log more (--trace: the same)
  -q, --quiet                  log only warnings and errors
  -f, --foreground             do not leave the foreground
  -l, --log-file PATH          log to PATH, not to standard error or the system's log
      --log-size BYTES         begin the log again when it has BYTES (default: 1048576)
      --runas USER             refused, unless it is who runs this
  -h, --help                   show this help and exit
      --version                show version and exit
  -p, --pcap FILE              write the frames of the interface to FILE
  -P, --pid FILE               write the process id to FILE
  -m, --mtu MTU                MTU in bytes (default: 65520)
  -a, --address ADDR[/LEN]     address of the container, once for each family
                               (default: the host's)
  -n, --netmask MASK           its IPv4 mask, dotted or in bits
  -g, --gateway ADDR           its gateway, once for each family (default: the host's)
  -i, --interface NAME         interface of the host to copy from
                               (default: that of the default route)
  -o, --outbound ADDR          address that flows leave from, once for each family
      --outbound-if4 NAME      interface that flows leave by, and to copy from
      --outbound-if6 NAME      the same
  -D, --dns ADDR               name server to ask, where --dns-host is not given
      --dns-host ADDR          name server to ask (default: those of the host)
      --dns-forward ADDR       answer as a name server at ADDR, once for each family
  -S, --search LIST            ignored, as are --dhcp-dns, --dhcp-search and --fqdn
  -H, --hostname NAME          host name for COMMAND
      --no-tcp, --no-udp, --no-icmp, --no-dhcp, --no-dhcpv6, --no-ndp, --no-ra
                               leave that out
      --no-map-gw              keep the container from the host's loopback by the gateway
      --map-host-loopback ADDR the host's loopback is at ADDR, or none (default: gateway)
      --map-guest-addr ADDR    the host's own address is at ADDR, or none
  -4, --ipv4-only              IPv4 only
  -6, --ipv6-only              IPv6 only
  -t, --tcp-ports SPEC         publish TCP ports of the host (default: auto)
  -u, --udp-ports SPEC         publish UDP ports of the host (default: auto)
                               SPEC: none, auto, all, or [ADDR[%%IF]/]PORTS[:PORTS],...
  -T, --tcp-ns SPEC            ports of the container's loopback that lead to the host's
  -U, --udp-ns SPEC            none or auto
      --no-splice              carry all TCP through the interface
  -I, --ns-ifname NAME         name of the container's interface (default: the host's)
      --ns-mac-addr ADDR       its hardware address
      --userns PATH            user namespace to enter
      --netns PATH|NAME        network namespace to attach
      --netns-only             make no user namespace
      --no-netns-quit          go on when the path of the namespace is gone
      --config-net             set addresses, routes and the interface up
`, name)
}

// VersionText is what --version says: the first line is that of a pasta, whose version
// is ours.
func VersionText(slipway string) string {
	return fmt.Sprintf("pasta slipway-%s\nslipway: %[1]s\nThis is slipway with the command line of pasta.\n", slipway)
}
