// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// usageScenarios are about words: help, version, and what is wrong with a command line.
func usageScenarios() []scenario {
	list := []scenario{
		{name: "help", observe: func(t *testing.T, s subject) string {
			got := s.run(t, nil, "--help")
			var found []string
			for _, option := range []string{
				"--configure", "--exit-fd", "--ready-fd", "--mtu", "--enable-ipv6", "--api-socket", "--cidr", "--disable-host-loopback",
				"--netns-type", "--userns-path", "--enable-sandbox", "--enable-seccomp", "--outbound-addr", "--outbound-addr6",
				"--disable-dns", "--macaddress", "--target-type", "--help", "--version", "--no-host-loopback", "--create-sandbox",
			} {
				if regexp.MustCompile(`(?m)` + option + `\b`).MatchString(got.stdout) {
					found = append(found, option)
				}
			}
			return fmt.Sprint(got.code, got.stderr, found)
		}},
		{name: "version", observe: func(t *testing.T, s subject) string {
			got := s.run(t, nil, "-v")
			var keys []string
			for _, key := range []string{`slirp4netns version \d+\.\d+\.\d+`, `commit: \S+`, `libslirp: \S+`, `SLIRP_CONFIG_VERSION_MAX: [3-9]`, `libseccomp: \S+`} {
				if regexp.MustCompile(`(?m)^` + key + `$`).MatchString(got.stdout) {
					keys = append(keys, key)
				}
			}
			return fmt.Sprint(got.code, got.stderr, keys, strings.HasPrefix(got.stdout, "slirp4netns version"))
		}},
	}
	for _, line := range []string{
		"", "123", "0", "--bogus=3 1 t", "-z", "--e=4", "--mtu", "-m", "--help=3", "--mtu=0 -h", "--mtu=65522 1 t", "--mtu=12x 1 t", "--mtu= 1 t",
		"--exit-fd=-1 1 t", "--ready-fd=x 1 t", "0 t", "abc t", "0x10 t", "-- -5 t", "--cidr=foo 0 t", "--netns-type=path /nonexistent t",
		"--netns-type= 999 t", "--userns-path=/nonexistent --mtu=0", "--macaddress=xx --target-type=x", "--target-type=x", "--target-type=x -v",
		"--target-type=bess", "--target-type=bess -c /x", "--target-type=bess --netns-type=pid /x y", "--target-type=bess --userns-path=/proc/self/ns/user /x",
		"--target-type=bess /x y", "--cidr=10.0.2.0 1 t", "--cidr=10.0.2.0/9999 1 t", "--cidr=999.0.0.0/24 1 t", "--cidr=010.0.2.0/24 1 t",
		"--cidr=10.0.2.0/26 1 t", "--cidr=10.0.2.0/0 1 t", "--cidr=10.0.2.100/24 1 t", "--cidr= 1 t", "--outbound-addr=no-such-link 1 t",
		"-c --macaddress=xx 1 t", "--cidr=foo --outbound-addr=foo -c --macaddress=xx 1 t", "-6 --enable-seccomp --mtu=0", "--no-host --create --mtu=0",
	} {
		list = append(list, scenario{name: "usage " + line, observe: func(t *testing.T, s subject) string { return complaint(s.run(t, nil, strings.Fields(line)...)) }})
	}
	failure := func(name, intended, theirs, ours string, args ...string) scenario {
		return scenario{name: name, intended: intended, theirs: theirs, ours: ours, observe: func(t *testing.T, s subject) string {
			c := attachtest.NewContainer(t)
			c.Exec(t, "ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1")
			got := s.run(t, c, args...)
			if got.stderr == "" {
				return "nothing on standard error"
			}
			return fmt.Sprint(got.code)
		}}
	}
	return append(list,
		failure("no such process", "", "", "", "-c", "2147483646", "tap0"),
		failure("process of root", "", "", "", "-c", "1", "tap0"),
		failure("no namespace", "", "", "", "-c", "--netns-type=path", "/etc/passwd", "tap0"),
		failure("name taken", "", "", "", "-c", "PID", "taken0"),
		failure("MTU too small", "", "", "", "-c", "--mtu=67", "PID", "tap0"),
		failure("MTU too small without -c", "", "", "", "--mtu=67", "PID", "tap0"),
		failure("MAC of a group", "", "", "", "-c", "--macaddress=01:00:5e:00:00:01", "PID", "tap0"),
		failure("API socket in no directory", "", "", "", "-c", "--api-socket=/nonexistent/api", "PID", "tap0"),
		failure("API socket with a long path", "", "", "", "-c", "--api-socket="+strings.Repeat("x", 108), "PID", "tap0"),
		scenario{
			name: "wrong IPv6 source", intended: "says so of `--outbound-addr6` in its own name",
			theirs: "1 outbound-addr has to be valid ipv4 address or iterface name. usage false [WARNING: Support for --outbound-addr6 is experimental]",
			ours:   "1 outbound-addr6 has to be valid ipv6 address or interface name. usage false [WARNING: Support for --outbound-addr6 is experimental]",
			observe: func(t *testing.T, s subject) string {
				return complaint(s.run(t, nil, "--outbound-addr6=192.0.2.1", "1", "t"))
			},
		},
	)
}

// complaint is what there is to see of a command line that is refused. The real one
// writes what it has buffered twice where it has forked.
func complaint(r result) string {
	var warnings []string
	usage := false
	for line := range strings.Lines(r.stdout) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "WARNING") && !slices.Contains(warnings, line) {
			warnings = append(warnings, line)
		}
		usage = usage || strings.HasPrefix(line, "Usage: ")
	}
	// It calls itself by the path under which it was called.
	stderr := regexp.MustCompile(`(?m)^/\S+/slirp4netns: `).ReplaceAllString(r.stderr, "slirp4netns: ")
	return fmt.Sprintf("%d %s usage %v %v", r.code, strings.TrimSpace(stderr), usage, warnings)
}
