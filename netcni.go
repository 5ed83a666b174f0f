// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/portfwd"
)

const (
	// cniIfName is the interface that plugins make, as all runtimes name it.
	cniIfName = "eth0"
	// cniTimeout bounds what plugins may take to attach and to delete.
	cniTimeout = 30 * time.Second
)

// A cniNetwork is a network of CNI plugins: of a configuration list that any runtime could
// use.
type cniNetwork struct {
	list  *libcni.NetworkConfigList
	path  []string // of plugins
	ports []map[string]any
}

// cniNetwork finds the network that --net names, nil for others.
func (r *runner) cniNetwork() (*cniNetwork, error) {
	name, ok := strings.CutPrefix(string(r.cfg.Net), launcher.CNINetwork)
	if !ok {
		return nil, nil
	}
	n := &cniNetwork{path: cniPath()}
	var err error
	if n.list, err = findCNI(name); err != nil {
		return nil, err
	}
	if r.net.auto != nil {
		return nil, fmt.Errorf("%w: --publish auto with --net %s: plugins publish ports at the start only", errUsage, r.cfg.Net)
	}
	for _, p := range r.net.publish {
		ports, err := portMappings(p)
		if err != nil {
			return nil, err
		}
		n.ports = append(n.ports, ports...)
	}
	r.word, r.cfg.Net = string(r.cfg.Net), launcher.NetPrivate
	return n, nil
}

// findCNI reads the configuration list of that name.
func findCNI(name string) (*libcni.NetworkConfigList, error) {
	dirs := []string{os.Getenv("NETCONFPATH"), "/etc/cni/net.d"}
	if config, err := os.UserConfigDir(); err == nil {
		dirs = []string{os.Getenv("NETCONFPATH"), filepath.Join(config, "cni/net.d"), "/etc/cni/net.d"}
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		list, err := libcni.LoadConfList(dir, name)
		if err == nil {
			return list, nil
		}
		_, none := errors.AsType[libcni.NotFoundError](err)
		_, empty := errors.AsType[libcni.NoConfigsFoundError](err)
		if !none && !empty {
			return nil, fmt.Errorf("read the CNI network %s: %w", name, err)
		}
	}
	return nil, fmt.Errorf("%w: there is no CNI network %q in %s", errUsage, name, strings.Join(dirs, " "))
}

// cniPath is where plugins are looked for.
func cniPath() []string {
	path := filepath.SplitList(os.Getenv("CNI_PATH"))
	if self, err := os.Executable(); err == nil {
		path = append(path, filepath.Dir(self))
	}
	return append(path, "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
}

// portMappings are the ports of a rule as the capability has them.
func portMappings(r portfwd.Rule) ([]map[string]any, error) {
	if r.Interface != "" || r.Container.IsValid() || r.HostPort == 0 || r.Loopback || r.Defer {
		return nil, fmt.Errorf("%w: --publish %s: CNI plugins know [IP:]HOST:CONTAINER[/tcp|/udp] only", errUsage, r)
	}
	var ports []map[string]any
	for i := range int(r.Count) {
		p := map[string]any{"hostPort": int(r.HostPort) + i, "containerPort": int(r.ContainerPort) + i, "protocol": string(r.Proto)}
		if r.Host.IsValid() {
			p["hostIP"] = r.Host.String()
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// resolvers are the name servers of the container, which is told of them before plugins
// run: those that the configuration names, those that our own plugin will have, or the
// host's.
func (n *cniNetwork) resolvers() ([]netip.Addr, error) {
	for _, p := range n.list.Plugins {
		if as, err := parseAddrs("dns", p.Network.DNS.Nameservers); err == nil && len(as) > 0 {
			return as, nil
		}
		if p.Network.Type != cniPluginName {
			continue
		}
		conf, err := netconf.Load(p.Bytes, "")
		if err != nil {
			return nil, fmt.Errorf("read the CNI network %s: %w", n.list.Name, err)
		}
		if conf.IPAM.Type != "" {
			return nil, fmt.Errorf("CNI network %s: name servers are not known beforehand where ipam gives addresses: set dns.nameservers", n.list.Name)
		}
		plan, err := conf.PlanHere(nil)
		if err != nil {
			return nil, err
		}
		var as []netip.Addr
		for _, f := range plan.Families() {
			as = append(as, f.DNS)
		}
		return as, nil
	}
	return hostResolvers(), nil
}

// cniPluginName is the type of our plugin.
const cniPluginName = "slipway-cni"

// hostResolvers are those of the host that are not on its loopback.
func hostResolvers() []netip.Addr {
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	var as []netip.Addr
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() {
				as = append(as, a)
			}
		}
	}
	return as
}

// A cniAttachment is a container's attachment to a network.
type cniAttachment struct {
	network *cniNetwork
	cni     *libcni.CNIConfig
	rt      *libcni.RuntimeConf
}

// attach has the plugins attach the container with the process pid. They keep what they
// need to know again in the directory.
func (n *cniNetwork) attach(pid int, id, dir string, log *slog.Logger) (launcher.Network, error) {
	a := &cniAttachment{network: n, cni: libcni.NewCNIConfigWithCacheDir(n.path, filepath.Join(dir, "cni"), nil)}
	a.rt = &libcni.RuntimeConf{
		ContainerID: id, NetNS: fmt.Sprintf("/proc/%d/ns/net", pid), IfName: cniIfName,
		Args: [][2]string{{"IgnoreUnknown", "1"}}, CapabilityArgs: map[string]any{},
	}
	if len(n.ports) > 0 {
		a.rt.CapabilityArgs["portMappings"] = n.ports
	}
	ctx, cancel := context.WithTimeout(context.Background(), cniTimeout)
	defer cancel()
	result, err := a.cni.AddNetworkList(ctx, n.list, a.rt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("CNI network %s: %w", n.list.Name, err), a.Close())
	}
	log.Info("network is up", "network", n.list.Name, "result", result)
	return a, nil
}

// Run implements launcher.Network: the traffic is carried elsewhere.
func (a *cniAttachment) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close implements launcher.Network. The namespace may be gone by now, or another one's.
func (a *cniAttachment) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cniTimeout)
	defer cancel()
	rt := *a.rt
	rt.NetNS = ""
	if err := a.cni.DelNetworkList(ctx, a.network.list, &rt); err != nil {
		return fmt.Errorf("leave the CNI network %s: %w", a.network.list.Name, err)
	}
	return nil
}
