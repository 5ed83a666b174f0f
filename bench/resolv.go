// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// resolvConf is where every helper looks for the host's resolvers (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

// ownResolvConf gives the calling thread, and the processes that it starts, a
// resolv.conf that names one resolver. That is how users' helpers learn theirs;
// not all of them have a flag for it. The thread needs CAP_SYS_ADMIN.
func ownResolvConf(resolver string) error {
	f, err := os.CreateTemp("", "slipway-bench-resolv-")
	if err != nil {
		return fmt.Errorf("make a resolv.conf: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := fmt.Fprintf(f, "nameserver %s\n", resolver); err != nil {
		return fmt.Errorf("make a resolv.conf: %w", err)
	}
	if err := f.Chmod(0o644); err != nil {
		return fmt.Errorf("make a resolv.conf: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount(f.Name(), resolvConf, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount a file at %s: %w", resolvConf, err)
	}
	return nil
}

// firstResolver returns the first resolver that the file names (resolv.conf(5)).
func firstResolver(path string) (netip.Addr, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find a resolver: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			a, err := netip.ParseAddr(words[1])
			if err != nil {
				return netip.Addr{}, fmt.Errorf("find a resolver in %s: %w", path, err)
			}
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("find a resolver: %s names none", path)
}
