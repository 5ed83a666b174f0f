// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/slipway-net/slipway/tap"
)

// Words that keys have in place of an address, a list or a path.
const (
	// Auto leaves the choice to us.
	Auto = "auto"
	// Off is none of it.
	Off = "off"
	// Host is the host's own.
	Host = "host"
	// Caller and Broker are the network namespaces that flows leave from: the
	// plugin's own, and that of the user's broker.
	Caller = "caller"
	Broker = "broker"
	// Builtin and None are who publishes ports: the helper, or nobody, because the
	// runtime does it.
	Builtin = "builtin"
	None    = "none"
)

// DefaultReadyTimeout is how long a helper may take until its network is up. It takes
// milliseconds, on a machine under load tenths of a second.
const DefaultReadyTimeout = 10 * time.Second

// A Conf is a network's configuration together with what was asked for one attachment.
type Conf struct {
	types.PluginConf

	MTU        int         `json:"mtu"`
	IPv4       *bool       `json:"ipv4"`
	IPv6       *bool       `json:"ipv6"`
	Subnet     string      `json:"subnet"`
	Subnet6    string      `json:"subnet6"`
	Address    netip.Addr  `json:"address"`
	Address6   netip.Addr  `json:"address6"`
	Gateway    netip.Addr  `json:"gateway"`
	Gateway6   netip.Addr  `json:"gateway6"`
	DNSAddr    netip.Addr  `json:"dnsAddress"`
	DNSAddr6   netip.Addr  `json:"dnsAddress6"`
	MAC        string      `json:"mac"`
	Forward    stringList  `json:"dnsForward"`
	HostSearch bool        `json:"dnsSearchFromHost"`
	Aliases    []string    `json:"aliases"`
	Ports      []Port      `json:"portMappings"`
	Driver     string      `json:"portDriver"`
	Loopback   bool        `json:"allowHostLoopback"`
	Services   []string    `json:"hostLoopback"`
	Sockets    []string    `json:"hostSocket"`
	Allow      []string    `json:"allow"`
	Deny       []string    `json:"deny"`
	Outbound   stringList  `json:"outboundAddr"`
	Rate       *Bandwidth  `json:"bandwidth"`
	Routes     []Route     `json:"routes"`
	Default    *bool       `json:"defaultRoute"`
	Accel      string      `json:"accel"`
	Sandbox    string      `json:"sandbox"`
	Cgroup     string      `json:"cgroup"`
	Outside    string      `json:"outside"`
	StateDir   string      `json:"stateDir"`
	LogLevel   string      `json:"logLevel"`
	Helper     string      `json:"helperPath"`
	Timeout    secondsText `json:"readyTimeout"`

	Runtime runtimeConfig   `json:"runtimeConfig"`
	Args    confArgs        `json:"args"`
	RawPrev json.RawMessage `json:"-"`
}

// A Route is a network that leads through the attachment.
type Route struct {
	Dst netip.Prefix `json:"dst"`
	GW  netip.Addr   `json:"gw"` // the gateway's, where it is given
}

// A Bandwidth bounds what the attachment carries. Zero is no bound.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`  // into the container, bits per second
	IngressBurst uint64 `json:"ingressBurst"` // bits
	EgressRate   uint64 `json:"egressRate"`   // out of the container
	EgressBurst  uint64 `json:"egressBurst"`
}

// Load reads the configuration for ADD and CHECK, with the runtime's CNI_ARGS. The
// error is a *types.Error.
func Load(stdin []byte, args string) (*Conf, error) {
	if err := checkKeys(stdin); err != nil {
		return nil, err
	}
	var c Conf
	if err := json.Unmarshal(stdin, &c); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("read the network configuration: %v", err), "")
	}
	var prev struct {
		PrevResult json.RawMessage `json:"prevResult"`
	}
	_ = json.Unmarshal(stdin, &prev) // it was read before
	c.RawPrev = prev.PrevResult
	if err := c.merge(args); err != nil {
		return nil, invalid("%v", err)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return &c, nil
}

// LoadLoosely reads what DEL, GC and STATUS need, and lets everything else be wrong:
// what was attached once must go away.
func LoadLoosely(stdin []byte) (*Conf, error) {
	var loose struct {
		types.PluginConf
		StateDir string `json:"stateDir"`
		Outside  string `json:"outside"`
		Helper   string `json:"helperPath"`
	}
	if err := json.Unmarshal(stdin, &loose); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("read the network configuration: %v", err), "")
	}
	return &Conf{PluginConf: loose.PluginConf, StateDir: loose.StateDir, Outside: loose.Outside, Helper: loose.Helper}, nil
}

// check reports what cannot be.
func (c *Conf) check() error {
	if c.MTU != 0 && (c.MTU < tap.MinMTU || c.MTU > tap.MaxMTU) {
		return invalid("mtu %d: want %d to %d", c.MTU, tap.MinMTU, tap.MaxMTU)
	}
	for _, word := range []struct {
		key, value string
		want       []string
	}{
		{"portDriver", c.Driver, []string{"", Builtin, None}},
		{"accel", c.Accel, []string{"", Auto, Off}},
		{"sandbox", c.Sandbox, []string{"", Auto, Off}},
		{"cgroup", c.Cgroup, []string{"", Auto, Off}},
		{"logLevel", c.LogLevel, []string{"", "debug", "info", "warn", "error"}},
	} {
		if !slices.Contains(word.want, word.value) {
			return unsupported(word.key, word.value, "want one of "+strings.Join(word.want[1:], ", "))
		}
	}
	if c.Outside != "" && c.Outside != Caller && c.Outside != Broker && !strings.HasPrefix(c.Outside, "/") {
		return unsupported("outside", c.Outside, "want caller, broker, or the path of the broker's socket")
	}
	for key, path := range map[string]string{"stateDir": c.StateDir, "helperPath": c.Helper} {
		if path != "" && !strings.HasPrefix(path, "/") {
			return unsupported(key, path, "want an absolute path")
		}
	}
	if c.IPAM.Type == "dhcp" {
		return unsupported("ipam.type", c.IPAM.Type, "no DHCP server of the host is in reach: leave ipam out, or use host-local or static")
	}
	for _, p := range c.Ports {
		if err := p.check(); err != nil {
			return err
		}
	}
	if err := c.Rate.check(); err != nil {
		return err
	}
	return c.Runtime.check()
}

// V4 and V6 report whether the family is on.
func (c *Conf) V4() bool { return c.IPv4 == nil || *c.IPv4 }

// V6 reports whether IPv6 is on.
func (c *Conf) V6() bool { return c.IPv6 == nil || *c.IPv6 }

// Publishes reports whether the helper publishes ports. Where flows leave from the
// broker's network namespace the runtime has them published there itself, as rootless
// Podman does, unless told otherwise.
func (c *Conf) Publishes() bool {
	if c.Driver != "" {
		return c.Driver == Builtin
	}
	return !c.ByBroker()
}

// OwnScope reports whether the helper gets a scope of its own where systemd runs.
func (c *Conf) OwnScope() bool { return c.Cgroup != Off }

// ByBroker reports whether a broker starts the helper.
func (c *Conf) ByBroker() bool { return c.Outside != "" && c.Outside != Caller }

// ReadyTimeout returns how long the helper may take.
func (c *Conf) ReadyTimeout() time.Duration {
	if c.Timeout > 0 {
		return time.Duration(c.Timeout)
	}
	return DefaultReadyTimeout
}

// check reports what cannot be. Rate and burst are in bits: what is less than a frame
// of the least MTU would stop all traffic.
func (b *Bandwidth) check() error {
	if b == nil {
		return nil
	}
	for _, d := range []struct {
		key         string
		rate, burst uint64
	}{{"ingress", b.IngressRate, b.IngressBurst}, {"egress", b.EgressRate, b.EgressBurst}} {
		if d.rate == 0 && d.burst != 0 {
			return invalid("bandwidth: %sBurst is given without %sRate", d.key, d.key)
		}
		if d.rate != 0 && d.rate < minRate {
			return invalid("bandwidth: %sRate %d: want at least %d bits per second", d.key, d.rate, minRate)
		}
	}
	return nil
}

// minRate is the least rate in bits per second: a byte each second.
const minRate = 8

func invalid(format string, args ...any) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}

func unsupported(key string, value any, want string) *types.Error {
	return types.NewError(types.ErrUnsupportedField, fmt.Sprintf("%s: %v is not supported: %s", key, value, want), "")
}
