// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
	"github.com/spf13/pflag"
)

// errUsage is what errors.Is finds in an error that the user's words caused.
var errUsage = errors.New("usage")

// none is the word that switches a flag's thing off.
const none = "none"

// netFlags are the flags about a container's network that commands share.
type netFlags struct {
	mtu          int
	cidr, cidr6  string
	ipv6         bool
	at           tap.Given // no flags of all commands
	hostLoopback []string
	hostSockets  []policy.SocketAt
	dns          []string
	outbound     []string
	accel        string
	rules        []policy.Rule
	publish      []portfwd.Rule
	auto         *portfwd.Auto
	logLevel     string
	logJSON      bool
	pcap         string
}

// The values of --accel.
const (
	accelAuto = "auto"
	accelOff  = "off"
)

// add adds the flags to fs, which fill f when fs is parsed.
func (f *netFlags) add(fs *pflag.FlagSet) {
	fs.IntVar(&f.mtu, "mtu", tap.DefaultMTU, "MTU of the container's interface in `BYTES`")
	fs.StringVar(&f.cidr, "cidr", tap.DefaultCIDR4, "IPv4 `NETWORK` of the container, or none")
	fs.StringVar(&f.cidr6, "cidr6", tap.DefaultCIDR6, "IPv6 `NETWORK` of the container")
	fs.BoolVar(&f.ipv6, "ipv6", true, "give the container IPv6")
	fs.StringSliceVar(&f.dns, "dns", nil, "`ADDR,...` of the name servers to ask instead of the host's, or none")
	fs.StringArrayVar(&f.hostLoopback, "host-loopback", []string{none},
		"`ADDR[:PORTS]`, perhaps with /PROTO, at which the container reaches the host's loopback, or none (may be repeated)")
	fs.Var(&socketValue{&f.hostSockets}, "host-socket",
		"`PORT=PATH`, or ADDR:PORT=PATH: port of the gateway, or of ADDR, at which the container reaches the host's Unix socket PATH (may be repeated)")
	fs.StringSliceVar(&f.outbound, "outbound-addr", nil,
		"`ADDR|IFNAME` of the host that flows leave from (once for each family)")
	fs.StringVar(&f.accel, "accel", accelAuto, "`WHEN` to splice TCP in the kernel: auto, where it can be done, or off")
	fs.Var(&ruleValue{&f.rules, policy.Allow}, "allow", "allow traffic to `CIDR[:PORTS][/PROTO]`; of allow and deny rules the first that matches wins")
	fs.Var(&ruleValue{&f.rules, policy.Deny}, "deny", "deny traffic to `CIDR[:PORTS][/PROTO]`")
	fs.VarP(&publishValue{f}, "publish", "p", "publish ports of the host by `RULE`, [IP:]HOST:CONTAINER[/tcp|/udp] (repeatable), or auto for what listens in the container")
	fs.StringVar(&f.logLevel, "log-level", "info", "least `LEVEL` to log: debug, info, warn or error")
	fs.BoolVar(&f.logJSON, "log-json", false, "log as JSON")
	fs.StringVar(&f.pcap, "pcap", "", "write the frames of the container's interface to `FILE`")
}

// logger returns the log that the flags ask for.
func (f *netFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, fmt.Errorf("%w: --log-level %q: want debug, info, warn or error", errUsage, f.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level}
	if f.logJSON {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}

// config returns the session that the flags ask for, but for its target.
func (f *netFlags) config(log *slog.Logger) (attach.Config, error) {
	cfg := attach.Config{
		Tap:     tap.Config{MTU: f.mtu, Configure: true, Pin: true},
		Rules:   f.rules,
		Publish: f.publish, Auto: f.auto,
		Version: versionText(),
		Log:     log,
	}
	if f.accel != accelAuto && f.accel != accelOff {
		return cfg, fmt.Errorf("%w: --accel %q: want %s or %s", errUsage, f.accel, accelAuto, accelOff)
	}
	cfg.NoSplice = f.accel == accelOff
	var err error
	if cfg.Tap.Plan, err = f.plan(); err != nil {
		return cfg, err
	}
	cfg.HostSockets = f.hostSockets
	for _, s := range without(f.hostLoopback, none) {
		ls, err := policy.ParseLoopback(s)
		if err != nil {
			return cfg, fmt.Errorf("%w: --host-loopback: %w", errUsage, err)
		}
		cfg.HostLoopback = append(cfg.HostLoopback, ls...)
	}
	dns := without(f.dns, none)
	cfg.NoDNS = len(dns) < len(f.dns)
	servers, err := parseAddrs("--dns", dns)
	if err != nil {
		return cfg, err
	}
	for _, a := range servers {
		cfg.DNS = append(cfg.DNS, netip.AddrPortFrom(a, dnsPort))
	}
	for _, s := range f.outbound {
		if cfg.Outbound, err = netstack.ParseOutbound(cfg.Outbound, s); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// dnsPort is where name servers listen.
const dnsPort = 53

func (f *netFlags) plan() (tap.Plan, error) {
	var cidr, cidr6 netip.Prefix
	var err error
	if f.cidr != none {
		if cidr, err = netip.ParsePrefix(f.cidr); err != nil {
			return tap.Plan{}, fmt.Errorf("%w: --cidr %q: want a network such as %s, or %s", errUsage, f.cidr, tap.DefaultCIDR4, none)
		}
	}
	if f.ipv6 {
		if cidr6, err = netip.ParsePrefix(f.cidr6); err != nil {
			return tap.Plan{}, fmt.Errorf("%w: --cidr6 %q: want a network such as %s", errUsage, f.cidr6, tap.DefaultCIDR6)
		}
	}
	p, err := tap.PlanWith(cidr, cidr6, f.at)
	if err != nil {
		return tap.Plan{}, fmt.Errorf("%w: %w", errUsage, err)
	}
	return p, nil
}

func parseAddrs(flag string, words []string) ([]netip.Addr, error) {
	var as []netip.Addr
	for _, w := range words {
		a, err := netip.ParseAddr(w)
		if err != nil || a.Zone() != "" {
			return nil, fmt.Errorf("%w: %s %q: want an IP address or %s", errUsage, flag, w, none)
		}
		as = append(as, a.Unmap())
	}
	return as, nil
}

// without returns words less the word w.
func without(words []string, w string) []string {
	var out []string
	for _, s := range words {
		if s != w {
			out = append(out, s)
		}
	}
	return out
}

// ruleValue is the value of --allow and --deny, which share one list.
type ruleValue struct {
	rules  *[]policy.Rule
	action policy.Action
}

// Set adds a rule.
func (v *ruleValue) Set(s string) error {
	r, err := policy.ParseRule(v.action, s)
	if err != nil {
		return err
	}
	*v.rules = append(*v.rules, r)
	return nil
}

// Type names the value's kind to pflag.
func (*ruleValue) Type() string { return "rule" }

// String is empty: the flags have no default to show.
func (*ruleValue) String() string { return "" }

// socketValue is the value of --host-socket.
type socketValue struct{ sockets *[]policy.SocketAt }

// Set adds a socket.
func (v *socketValue) Set(s string) error {
	k, err := policy.ParseSocket(s)
	if err != nil {
		return err
	}
	*v.sockets = append(*v.sockets, k)
	return nil
}

// Type names the value's kind to pflag.
func (*socketValue) Type() string { return "socket" }

// String is empty: the flag has no default to show.
func (*socketValue) String() string { return "" }

// publishValue is the value of --publish.
type publishValue struct{ flags *netFlags }

// Set adds a rule, or what is to be followed.
func (v *publishValue) Set(s string) error {
	if portfwd.IsAuto(s) {
		if v.flags.auto != nil {
			return errors.New("auto is given twice: give it once, with all ports to follow or not, such as auto,!22")
		}
		a, err := portfwd.ParseAuto(s)
		v.flags.auto = &a
		return err
	}
	r, err := portfwd.ParseRule(s)
	if err != nil {
		return err
	}
	v.flags.publish = append(v.flags.publish, r)
	return nil
}

// Type names the value's kind to pflag.
func (*publishValue) Type() string { return "rule" }

// String is empty: the flag has no default to show.
func (*publishValue) String() string { return "" }

// parseMAC reads a unicast hardware address.
func parseMAC(s string) (net.HardwareAddr, error) {
	if s == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return nil, fmt.Errorf("%w: --macaddress %q: want a unicast address such as 52:54:00:12:34:56", errUsage, s)
	}
	return mac, nil
}

// newFlagSet returns an empty flag set for a command, whose errors the command
// reports itself.
func newFlagSet(name string) *pflag.FlagSet {
	fs := pflag.NewFlagSet(name, pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {}
	return fs
}

// usage writes a command's help.
func usage(w io.Writer, fs *pflag.FlagSet, synopsis, about string) {
	fmt.Fprintf(w, "Usage: slipway %s\n\n%s\n\nFlags:\n%s", synopsis, about, strings.TrimRight(fs.FlagUsages(), "\n")+"\n")
}
