// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"errors"
	"math/bits"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/netstack/attach/getopt"
	"github.com/slipway-net/slipway/tap"
)

// none is the word that switches a thing off.
const none = "none"

// runNetNS is where ip-netns(8) has namespaces by name.
const runNetNS = "/run/netns"

// errDone ends the reading of options at one that asks for help or the version.
var errDone = errors.New("no more is to be read")

// Parse reads the arguments of a command line, without the program's own name. It looks
// at nothing but them. The error is an *Error.
func Parse(args []string) (Options, error) {
	o := Options{MTU: DefaultMTU, LogSize: DefaultLogSize, netmask: -1}
	operands, err := getopt.Parse(args, specs(), getopt.InFront, func(s getopt.Spec, value string) error {
		return o.set(s.Long, value)
	})
	if bad, ok := errors.AsType[*getopt.Error](err); ok {
		return o, refusef("%s: see --help", bad.Error())
	}
	if errors.Is(err, errDone) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	if err := o.target(operands); err != nil {
		return o, err
	}
	return o, o.check()
}

// set notes an option.
func (o *Options) set(long, value string) error {
	if why := unsupported(long); why != "" {
		return refusef("--%s is not supported: %s", long, why)
	}
	if o.flag(long) || o.word(long, value) {
		return nil
	}
	switch long {
	case "help":
		o.Action = Help
		return errDone
	case "version":
		o.Action = Version
		return errDone
	case "mtu":
		n, ok := number(value, tap.MinMTU, DefaultMTU)
		if value != "0" && !ok { // 0 leaves the default
			return refusef("--mtu %q: want %d to %d bytes", value, tap.MinMTU, DefaultMTU)
		}
		if ok {
			o.MTU = n
		}
	case "log-size":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < minLogSize {
			return refusef("--log-size %q: want at least %d bytes", value, minLogSize)
		}
		o.LogSize = n
	case "ns-mac-addr":
		mac, err := net.ParseMAC(value)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return refusef("--%s %q: want a unicast address such as 52:54:00:12:34:56", long, value)
		}
		o.MAC = mac
	case "netmask":
		return o.setNetmask(value)
	case "address":
		return o.setAddress(value)
	default:
		return o.setMore(long, value)
	}
	return nil
}

// setMore notes options whose values are addresses or ports.
func (o *Options) setMore(long, value string) error {
	switch long {
	case "gateway":
		return once(&o.gateways, long, value)
	case "outbound":
		return once(&o.outbound, long, value)
	case "dns-forward":
		return once(&o.dnsForward, long, value)
	case "map-host-loopback":
		return o.mapHostLoopback.set(long, value)
	case "map-guest-addr":
		return o.mapGuest.set(long, value)
	case "dns":
		return list(&o.dns, long, value)
	case "dns-host":
		return list(&o.dnsHosts, long, value)
	case "tcp-ports":
		return o.ports[tcp].publish(tcp, "-t", value)
	case "udp-ports":
		return o.ports[udp].publish(udp, "-u", value)
	case "tcp-ns":
		return o.hostPorts[tcp].reach(tcp, "-T", value)
	case "udp-ns":
		return o.hostPorts[udp].reach(udp, "-U", value)
	}
	return refusef("--%s is not supported", long)
}

// flag notes an option that takes no value, and reports whether it is one.
func (o *Options) flag(long string) bool {
	switch long {
	case "debug", "trace":
		o.Verbosity = Debug
	case "quiet":
		o.Verbosity = Quiet
	case "foreground":
		o.Foreground = true
	case "config-net":
		o.Configure = true
	case "no-tcp":
		o.Without.TCP = true
	case "no-udp":
		o.Without.UDP = true
	case "no-icmp":
		o.Without.ICMP = true
	case "no-dhcp":
		o.Without.DHCP = true
	case "no-dhcpv6":
		o.Without.DHCPv6 = true
	case "no-ndp":
		o.Without.NDP = true
	case "no-ra":
		o.Without.RA = true
	case "no-splice":
		o.NoSplice = true
	case "no-map-gw":
		o.noMapGW = true
	case "ipv4-only":
		o.only |= four
	case "ipv6-only":
		o.only |= six
	case "netns-only":
		o.NetNSOnly = true
	case "no-netns-quit":
		o.KeepOpen = true
	case "stderr", "dhcp-dns", "dhcp-search", "no-copy-routes", "no-copy-addrs", "host-lo-to-ns-lo", "chroot-fallback":
		// They change nothing: docs/compat.md says why.
	default:
		return false
	}
	return true
}

// word notes an option that takes any value, and reports whether it is one.
func (o *Options) word(long, value string) bool {
	switch long {
	case "log-file":
		o.LogFile = value
	case "pcap":
		o.PcapFile = value
	case "pid":
		o.PIDFile = value
	case "runas":
		o.RunAs = value
	case "ns-ifname":
		o.IfName = value
	case "interface":
		o.template = value
	case "outbound-if4":
		o.outboundIf.v4 = value
	case "outbound-if6":
		o.outboundIf.v6 = value
	case "hostname":
		o.Hostname = value
	case "userns":
		o.userns = value
	case "netns":
		o.netns, o.netnsNamed = value, true
	case "search", "fqdn":
		// What DHCP tells of names is the host's search list.
	default:
		return false
	}
	return true
}

// set notes an address, or that there is to be none.
func (m *mapping) set(long, value string) error {
	if value == none {
		m.none = true
		return nil
	}
	return once(&m.given, long, value)
}

// once notes an address, of which there is one for each family.
func once(to *perFamily[netip.Addr], long, value string) error {
	a, err := parseAddr(long, value)
	if err != nil {
		return err
	}
	at := to.at(of(a))
	if at.IsValid() && *at != a {
		return refusef("--%s %s: it is %s already: give one address of each family", long, a, *at)
	}
	*at = a
	return nil
}

// list notes one of several addresses; none leaves what was there.
func list(to *[]netip.Addr, long, value string) error {
	if value == none || value == "" {
		*to = nil
		return nil
	}
	a, err := parseAddr(long, value)
	if err == nil {
		*to = append(*to, a)
	}
	return err
}

func parseAddr(long, value string) (netip.Addr, error) {
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() && long != "dns" && long != "dns-host" && long != "outbound" {
		return netip.Addr{}, refusef("--%s %q: want an IP address of a host", long, value)
	}
	return a, nil
}

// setAddress notes ADDR[/LEN]; without LEN the prefix is of 0 bits.
func (o *Options) setAddress(value string) error {
	word, length, has := strings.Cut(value, "/")
	a, err := parseAddr("address", word)
	if err != nil {
		return err
	}
	n := 0
	if has {
		var ok bool
		if n, ok = number(length, 1, a.BitLen()); !ok {
			return refusef("--address %q: want a prefix length of 1 to %d", value, a.BitLen())
		}
	}
	at := o.addresses.at(of(a))
	if at.IsValid() && at.Addr() != a {
		return refusef("--address %s: it is %s already: give one address of each family", a, at.Addr())
	}
	*at = netip.PrefixFrom(a, n)
	return nil
}

// setNetmask notes a mask, dotted or in bits.
func (o *Options) setNetmask(value string) error {
	if n, ok := number(value, 1, 32); ok {
		o.netmask = n
		return nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil || !a.Is4() {
		return refusef("--netmask %q: want a mask such as 255.255.255.0, or 24", value)
	}
	b := a.As4()
	mask := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := bits.LeadingZeros32(^mask)
	if n == 0 || bits.OnesCount32(mask) != n {
		return refusef("--netmask %q: its bits are no prefix", value)
	}
	o.netmask = n
	return nil
}

// target reads the operands, and says what is to be done.
func (o *Options) target(operands []string) error {
	if len(operands) == 1 && strings.Trim(operands[0], "0123456789") == "" && operands[0] != "" {
		pid, ok := number(operands[0], 1, 1<<31-1)
		if !ok {
			return refusef("%q: want a process id", operands[0])
		}
		if o.netnsNamed {
			return refusef("give a process id or --netns, not both")
		}
		o.Target = tap.Target{PID: pid, UserNS: o.userns}
		return nil
	}
	if o.netnsNamed {
		if len(operands) > 0 {
			return refusef("with --netns no command is run: leave %q out", operands[0])
		}
		path := o.netns
		if path == "" || strings.ContainsRune(path, 0) {
			return refusef("--netns %q: want a path, or a name in %s", path, runNetNS)
		}
		if !strings.Contains(path, "/") {
			path = filepath.Join(runNetNS, path)
		}
		o.Target = tap.Target{NetNS: path, UserNS: o.userns}
		return nil
	}
	// As pasta takes it, a path of a namespace is one only behind --netns.
	if o.userns != "" {
		return refusef("--userns needs --netns or a process id")
	}
	o.Action, o.Command, o.Foreground = Spawn, operands, true
	return nil
}

// check finds values that do not go together.
func (o *Options) check() error {
	switch {
	case o.only == four|six:
		return refusef("-4 and -6 exclude each other: leave both out for both families")
	case o.netmask >= 0 && o.addresses.v4.IsValid() && o.addresses.v4.Bits() > 0:
		return refusef("give --netmask, or --address with a prefix length, not both")
	case o.NetNSOnly && o.userns != "":
		return refusef("--netns-only and --userns exclude each other")
	}
	if o.Configure {
		o.Without.RA = true
	}
	if o.Without.ICMP {
		o.Without.NDP = true
	}
	return nil
}

// number reads a decimal number without a sign, and reports whether it is within the
// bounds, both included.
func number(s string, least, most int) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil && int(n) >= least && int(n) <= most
}
