// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// nameBytes is the number of random bytes in a container's default name, which
// has two digits for each.
const nameBytes = 6

// maxResolvConf bounds in bytes what is taken of the host's resolv.conf.
const maxResolvConf = 64 << 10

// hostResolvConf is where the host's resolver configuration is (resolv.conf(5)).
const hostResolvConf = "/etc/resolv.conf"

// randomName makes a container's default name.
func randomName() string {
	b := make([]byte, nameBytes)
	rand.Read(b) // never fails: crypto/rand.Read
	return hex.EncodeToString(b)
}

// etcFiles makes the files in /etc that tell the container who and where it is.
func etcFiles(c Config) ([]sandbox.File, error) {
	resolv, err := resolvConf(c)
	if err != nil {
		return nil, err
	}
	files := []sandbox.File{
		{Path: "/etc/hostname", Content: c.Hostname + "\n"},
		{Path: "/etc/hosts", Content: hosts(c)},
		{Path: "/etc/resolv.conf", Content: resolv},
	}
	// The host's own root knows its users, and an OCI runtime knows nothing of entries.
	if f := strings.Split(c.Account, ":"); len(f) == 3 && !c.Root.IsHost() && c.Runtime == "" {
		name, uid, gid, home := f[0], f[1], f[2], cmp.Or(c.Workdir, "/")
		if strings.ContainsAny(home, ":\n") { // passwd(5) has no way to write it
			home = "/"
		}
		files = append(files,
			sandbox.File{Path: "/etc/passwd", Content: fmt.Sprintf("%s:*:%s:%s::%s:/bin/sh\n", name, uid, gid, home), Entry: true},
			sandbox.File{Path: "/etc/group", Content: fmt.Sprintf("%s:*:%s:\n", name, gid), Entry: true})
	}
	return files, nil
}

// HostGateway stands for the network's gateways in place of an address of Config.Hosts.
const HostGateway = "host-gateway"

// hosts makes hosts(5): loopback, the container's name at its addresses, or at loopback
// where it has no other, and what the caller adds.
func hosts(c Config) string {
	if c.Net == NetJoined && c.Joined.Hosts != "" {
		return c.Joined.Hosts + "127.0.0.1\t" + c.Hostname + "\n"
	}
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, h := range c.Hosts {
		name, addr, _ := strings.Cut(h, ":")
		if addr != HostGateway {
			fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(addr, "[]"), name)
			continue
		}
		for _, g := range c.Gateways {
			fmt.Fprintf(&b, "%s\t%s\n", g, name)
		}
	}
	if !c.isDescribed() || len(c.ContainerAddrs) == 0 {
		fmt.Fprintf(&b, "127.0.0.1\t%s\n", c.Hostname)
		return b.String()
	}
	for _, a := range c.ContainerAddrs {
		fmt.Fprintf(&b, "%s\t%s\n", a, c.Hostname)
	}
	return b.String()
}

// isDescribed reports whether c says which addresses the container has.
func (c *Config) isDescribed() bool {
	return c.Net == NetPrivate || c.Net == NetJoined && c.Joined.Own
}

// checkHosts says which of the caller's lines cannot be.
func (c *Config) checkHosts() error {
	for _, h := range c.Hosts {
		name, addr, _ := strings.Cut(h, ":")
		if err := checkHostname(name); err != nil {
			return err
		}
		if addr == HostGateway {
			continue
		}
		if _, err := netip.ParseAddr(strings.Trim(addr, "[]")); err != nil {
			return fmt.Errorf("%w: host %q: want NAME:ADDR, such as db:10.0.2.2, or NAME:%s", ErrUsage, h, HostGateway)
		}
	}
	return nil
}

// resolvConf makes resolv.conf(5): our resolvers on a private network, the
// host's file on the host's network, and nothing where there is no network.
func resolvConf(c Config) (string, error) {
	if c.Net == NetJoined && c.Joined.Resolv != "" {
		return c.Joined.Resolv, nil
	}
	switch {
	case c.Net == NetHost, c.Net == NetJoined && !(c.Joined.Own && len(c.DNS) > 0):
		b, err := os.ReadFile(hostResolvConf)
		if err != nil && !os.IsNotExist(err) {
			return "", fmt.Errorf("take over the host's resolver: %w", err)
		}
		return string(b[:min(len(b), maxResolvConf)]), nil
	case c.Net == NetNone:
		return "", nil
	}
	var b strings.Builder
	for _, a := range c.DNS {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	var search []string
	for _, s := range c.Search {
		// One word: anything else would be another line or another domain.
		if f := strings.Fields(s); len(f) == 1 {
			search = append(search, f[0])
		}
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(c.ResolvOptions) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.ResolvOptions, " "))
	}
	return b.String(), nil
}
