// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/cninet"
	"github.com/slipway-net/slipway/launcher/lan"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/userns"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/spf13/pflag"
)

// cniDir is where attachments of CNI networks are, below the directory of what runs.
const cniDir = "cni"

// cniFlags are the flags about CNI networks.
type cniFlags struct {
	dirs []string
	word string // of --net
}

func (f *cniFlags) add(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.dirs, "cni-dir", nil,
		"`DIR` with the configuration of --net cni:NAME instead of $NETCONFPATH, ~/.config/cni/net.d and /etc/cni/net.d (repeatable)")
}

// sweepNetworks detaches containers that were killed from their CNI networks.
func sweepNetworks() error { return cninet.Sweep(cniState()) }

func cniState() string { return filepath.Join(state.RunDir(os.Getenv), cniDir) }

// plug has plugins make the network of --net cni:NAME; with any other it does nothing.
func (r *runner) plug() error {
	name, ok := strings.CutPrefix(string(r.cfg.Net), launcher.JoinCNI)
	if !ok {
		if len(r.cni.dirs) > 0 {
			return fmt.Errorf("%w: --cni-dir is where the configuration of --net %sNAME is: give that, too", errUsage, launcher.JoinCNI)
		}
		return nil
	}
	cfg := cninet.Config{
		Name: name, ConfDirs: r.cni.dirs, State: cniState(), Aliases: r.lans.aliases,
		PluginDirs: cninet.PluginDirs(os.Getenv), Mapping: r.cfg.IDs,
	}
	if len(cfg.ConfDirs) == 0 {
		cfg.ConfDirs = cninet.ConfDirs(os.Getenv)
	}
	if err := r.checkPlug(&cfg); err != nil {
		return err
	}
	if err := sweepNetworks(); err != nil {
		r.cfg.Log.Warn("the end of another container", "err", err)
	}
	var err error
	if r.plugged, err = cninet.Add(cfg); err != nil {
		return err
	}
	r.cni.word = string(r.cfg.Net)
	r.cfg.Net = launcher.NetJoined
	r.cfg.Joined = launcher.Joined{User: int(r.plugged.User.Fd()), Net: int(r.plugged.Net.Fd()), Own: true}
	return r.describePlugged()
}

// checkPlug says what of the flags plugins cannot be told, and fills in the rest of cfg.
func (r *runner) checkPlug(cfg *cninet.Config) error {
	if len(r.lans.networks) > 0 {
		return fmt.Errorf("%w: --network needs a container with --net private", errUsage)
	}
	for _, n := range cfg.Aliases {
		if err := lan.CheckName(n); err != nil {
			return fmt.Errorf("%w: --network-alias: %w", errUsage, err)
		}
	}
	if r.net.auto != nil {
		return fmt.Errorf("%w: --publish auto with --net %s: plugins publish ports that are named", errUsage, r.cfg.Net)
	}
	for _, rule := range r.net.publish {
		ports, err := pluginPorts(rule)
		if err != nil {
			return err
		}
		cfg.Ports = append(cfg.Ports, ports...)
	}
	if cfg.Mapping.IsZero() {
		caller, err := userns.Load()
		if err != nil {
			return err
		}
		cfg.Mapping = caller.Single()
	}
	// What plugins write is the caller's, who else would not find or remove it.
	if uid, ok := cfg.Mapping.HostUID(0); !ok || int(uid) != os.Geteuid() {
		return fmt.Errorf("%w: --net %s needs a container whose root is the caller: give --userns host or single", errUsage, r.cfg.Net)
	}
	return nil
}

// pluginPorts is a rule as plugins know ports, one by one.
func pluginPorts(r portfwd.Rule) ([]cninet.Port, error) {
	if r.HostPort == 0 || r.Interface != "" || r.Container.IsValid() || r.Loopback || r.Defer {
		return nil, fmt.Errorf("%w: --publish %s: plugins know only [IP:]HOST:CONTAINER[/tcp|/udp], with a port of the host", errUsage, r)
	}
	var ports []cninet.Port
	for i := range r.Count {
		ports = append(ports, cninet.Port{HostPort: r.HostPort + i, ContainerPort: r.ContainerPort + i, Protocol: string(r.Proto), HostIP: r.Host})
	}
	return ports, nil
}

// describePlugged fills in what the container's files say of the plugins' network, with
// the name servers of the user's where there are any.
func (r *runner) describePlugged() error {
	res := r.plugged.Result
	for _, a := range res.Addrs {
		r.cfg.ContainerAddrs = append(r.cfg.ContainerAddrs, a.Addr())
	}
	r.cfg.Gateways, r.cfg.DNS, r.cfg.Search = res.Gateways, res.DNS, res.Search
	r.cfg.ResolvOptions = append(r.cfg.ResolvOptions, res.Options...)
	own, err := parseAddrs("--dns", without(r.net.dns, none))
	if len(own) > 0 {
		r.cfg.DNS = own
	}
	return err
}

// unplug has plugins take the container from its network, once.
func (r *runner) unplug(log *slog.Logger) {
	if err := r.plugged.Close(); err != nil {
		log.Warn("the container's network is left to slipway gc", "err", err)
	}
}

// errOfPlugins is that of a command about the network of a container that is not ours.
func errOfPlugins(c *state.Container) error {
	if !strings.HasPrefix(c.Net, launcher.JoinCNI) {
		return nil
	}
	return fmt.Errorf("container %s: its network is %s, whose plugins alone know of its ports and flows; slipway inspect tells what was asked for", c.DisplayName(), c.Net)
}
