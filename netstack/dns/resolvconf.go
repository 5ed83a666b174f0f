// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Bounds on what is taken from resolv.conf. glibc takes 3 servers (MAXNS); more
// help where a VPN has put its own in front.
const (
	maxFile    = 64 << 10 // bytes
	maxServers = 8
	maxSearch  = 32
	dnsPort    = 53 // RFC 1035 §4.2
	// maxDomain is the longest name in text: 255 octets on the wire have two
	// more, the first length and the root (RFC 1035 §2.3.4).
	maxDomain = 253
)

// A resolvConf is what a resolv.conf(5) says.
type resolvConf struct {
	servers []netip.AddrPort
	search  []string
}

// A fileState tells one version of a file from another.
type fileState struct {
	info os.FileInfo // nil: there was none
}

func (s fileState) same(o fileState) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// due reports whether it is time to look at the file again.
func (f *Forwarder) due() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dueLocked()
}

func (f *Forwarder) dueLocked() bool {
	return len(f.cfg.Upstream) == 0 && (f.statted.IsZero() || f.now().Sub(f.statted) >= StatInterval)
}

// refresh brings the servers up to date. Files may keep it waiting, but it keeps
// nobody else waiting then: others go on with the servers as they were.
func (f *Forwarder) refresh() {
	f.mu.Lock()
	due, first, file, useless := f.dueLocked(), f.statted.IsZero(), f.file, f.useless
	if due {
		f.statted = f.now()
	}
	f.mu.Unlock()
	if !due {
		return
	}
	var state fileState
	if info, err := os.Stat(f.cfg.ResolvConf); err == nil {
		state.info = info
	}
	// A useless file is read each time: a change of its mode, which may be what
	// mends it, shows in no time or size.
	if !first && !useless && state.same(file) {
		return
	}
	conf, err := readResolvConf(f.cfg.ResolvConf)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tookLocked(conf, state, first, err)
}

// tookLocked takes what was read from the file, in that state, or why it could
// not be. The caller holds f.mu.
func (f *Forwarder) tookLocked(conf resolvConf, state fileState, first bool, err error) {
	if err == nil && len(conf.servers) > 0 {
		if !first {
			f.stats.reloads.Add(1)
		}
		f.file, f.useless, f.conf = state, false, conf
		clear(f.badUntil)
		return
	}
	if first {
		f.conf = resolvConf{servers: localServer(), search: conf.search}
	}
	if !f.useless {
		f.log.Warn("no dns server in file, going on without it", "file", f.cfg.ResolvConf, "servers", f.conf.servers, "err", err)
	}
	f.useless = true
}

// CheckResolvConf returns an error where the file at path, DefaultResolvConf if
// that is empty, cannot be read or names no server. A Forwarder would use the
// server at 127.0.0.1 then, as resolv.conf(5) says, which is seldom there.
func CheckResolvConf(path string) error {
	if path == "" {
		path = DefaultResolvConf
	}
	conf, err := readResolvConf(path)
	if err != nil {
		return err
	}
	if len(conf.servers) == 0 {
		return fmt.Errorf("%s names no dns server", path)
	}
	return nil
}

// localServer is what resolv.conf(5) says to use without a nameserver line.
func localServer() []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
}

func readResolvConf(name string) (resolvConf, error) {
	file, err := os.Open(name)
	if err != nil {
		return resolvConf{}, fmt.Errorf("read dns servers: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return resolvConf{}, fmt.Errorf("read dns servers: %w", err)
	}
	return parseResolvConf(string(b)), nil
}

// parseResolvConf takes what it understands and passes over the rest, as glibc
// does.
func parseResolvConf(text string) resolvConf {
	var c resolvConf
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			c.addServer(words[1])
		case "domain":
			c.search = domains(words[1:2])
		case "search":
			c.search = domains(words[1:])
		}
	}
	return c
}

func (c *resolvConf) addServer(s string) {
	a, err := netip.ParseAddr(s)
	if err != nil || len(c.servers) == maxServers {
		return
	}
	server := netip.AddrPortFrom(a.Unmap(), dnsPort)
	if !slices.Contains(c.servers, server) {
		c.servers = append(c.servers, server)
	}
}

// domains returns the names without their final dots, leaving out the root and
// what is no domain name.
func domains(words []string) []string {
	var ds []string
	for _, w := range words {
		if w = strings.TrimSuffix(w, "."); isDomain(w) && len(ds) < maxSearch {
			ds = append(ds, w)
		}
	}
	return ds
}

// isDomain reports whether s is labels of letters, digits, hyphens and
// underscores, so that it can be copied into another resolv.conf or a DHCP
// option without a second thought.
func isDomain(s string) bool {
	if s == "" || len(s) > maxDomain {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel {
			return false
		}
		for _, r := range label {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", r) {
				return false
			}
		}
	}
	return true
}
