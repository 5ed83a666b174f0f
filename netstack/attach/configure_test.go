// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// TestConfigured looks at what New gives a container.
func TestConfigured(t *testing.T) {
	mac := net.HardwareAddr{0x02, 0, 0, 0x12, 0x34, 0x56}
	r := start(t, func(cfg *attach.Config) { cfg.Tap.MTU, cfg.Tap.MAC = 9000, mac })
	link := r.c.Exec(t, "ip", "-o", "link", "show", "tap0")
	for _, want := range []string{"mtu 9000", mac.String(), "UP"} {
		if !strings.Contains(link, want) {
			t.Errorf("the link lacks %q: %s", want, link)
		}
	}
	if lo := r.c.Exec(t, "ip", "-o", "link", "show", "lo"); !strings.Contains(lo, "UP") {
		t.Errorf("lo is not up: %s", lo)
	}
	families(t, func(t *testing.T, f attachtest.Family) {
		plan, flag := r.family(f), map[bool]string{false: "-4", true: "-6"}[f.Is6()]
		want := netip.PrefixFrom(plan.Container, plan.Prefix.Bits()).String()
		if got := r.c.Exec(t, "ip", flag, "-o", "addr", "show", "tap0", "-tentative"); !strings.Contains(got, want) {
			t.Errorf("address %s is missing, or not usable yet: %s", want, got)
		}
		if got := r.c.Exec(t, "ip", flag, "route", "show", "default"); !strings.Contains(got, "via "+plan.Gateway.String()) {
			t.Errorf("the default route is not by %s: %s", plan.Gateway, got)
		}
	})
}

// bare starts a session whose container has an interface and nothing else.
func bare(t *testing.T) *rig {
	r := start(t, func(cfg *attach.Config) { cfg.Tap.Configure = false })
	// Duplicate address detection takes as long as a neighbour is waited for.
	r.c.Exec(t, "sh", "-c", "echo 10 > /proc/sys/net/ipv6/neigh/tap0/retrans_time_ms; ip link set lo up")
	return r
}

// speaks proves that the container has a network of the family.
func (r *rig) speaks(t *testing.T, f attachtest.Family) {
	t.Helper()
	p := r.connect(t, f)
	exchange(t, p.container, p.peer)
}

func TestDHCPv4(t *testing.T) {
	attachtest.NeedTools(t, "udhcpc")
	r := bare(t)
	script := writeScript(t, `case $1 in
deconfig) ip link set $interface up ;;
bound)
	ip addr add $ip/$mask dev $interface && ip route add default via $router
	echo got $ip/$mask router $router dns $dns mtu $mtu ;;
esac
`)
	out := r.c.Exec(t, "udhcpc", "-i", "tap0", "-n", "-q", "-f", "-O", "mtu", "-s", script)
	v4 := r.plan.V4
	want := fmt.Sprintf("got %s/%d router %s dns %s mtu %d", v4.Container, v4.Prefix.Bits(), v4.Gateway, v4.DNS, r.s.Device().MTU())
	if !strings.Contains(out, want) {
		t.Errorf("the lease is not %q: %s", want, out)
	}
	r.speaks(t, attachtest.Families()[0])
}

func TestDHCPv6(t *testing.T) {
	attachtest.NeedTools(t, "dhclient")
	r := bare(t)
	r.c.Exec(t, "ip", "link", "set", "tap0", "up")
	r.waitAddress(t, "scope link")
	script := writeScript(t, `case $reason in
BOUND6) ip -6 addr add $new_ip6_address/$new_ip6_prefixlen dev $interface nodad
	echo got $new_ip6_address dns $new_dhcp6_name_servers ;;
esac
`)
	dir := t.TempDir()
	client := r.c.Start(t, "dhclient", "-6", "-1", "-d", "-sf", script, "-cf", os.DevNull,
		"-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "tap0")
	client.WaitLine(t, fmt.Sprintf("got %s dns %s", r.plan.V6.Container, r.plan.V6.DNS))
}

// TestSLAAC lets the kernel configure itself by our router advertisement.
func TestSLAAC(t *testing.T) {
	r := bare(t)
	r.c.Exec(t, "ip", "link", "set", "tap0", "up")
	r.waitAddress(t, "scope global")
	r.speaks(t, attachtest.Families()[1])
}

// waitAddress waits for an IPv6 address that is there to be used.
func (r *rig) waitAddress(t testing.TB, what string) {
	t.Helper()
	attachtest.Eventually(t, "an address of "+what, func() bool {
		return strings.Contains(r.c.Exec(t, "ip", "-6", "-o", "addr", "show", "dev", "tap0", "-tentative"), what)
	})
}

// TestDuplicateAddress looks for a duplicate of the container's own address, for
// which nobody must answer.
func TestDuplicateAddress(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) {
		// Without the probe, for which the container asks for the gateway, too.
		r := start(t, func(cfg *attach.Config) { cfg.NoSplice = true })
		own, gateway := r.plan.V4.Container, r.plan.V4.Gateway
		got := r.askARP(t, []netip.Addr{own, own.Next(), gateway, r.plan.V4.DNS}, 2)
		want := fmt.Sprintf("%s is at %s, %s is at %s", gateway, r.plan.GatewayMAC(), r.plan.V4.DNS, r.plan.GatewayMAC())
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("the first answers were %q, want %q", got, want)
		}
	})
	t.Run("IPv6", func(t *testing.T) {
		r := bare(t)
		own := netip.PrefixFrom(r.plan.V6.Container, r.plan.V6.Prefix.Bits()).String()
		r.c.Exec(t, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/tap0/accept_ra; ip link set tap0 up; ip addr add "+own+" dev tap0")
		attachtest.Eventually(t, "the kernel has decided about "+own, func() bool {
			out := r.c.Exec(t, "ip", "-6", "-o", "addr", "show", "dev", "tap0", "to", own)
			if strings.Contains(out, "dadfailed") {
				t.Fatalf("somebody else has %s: %s", own, out)
			}
			return !strings.Contains(out, "tentative")
		})
		r.c.Exec(t, "ip", "route", "add", "default", "via", r.plan.V6.Gateway.String())
		r.speaks(t, attachtest.Families()[1])
	})
}

// askARP probes for the addresses (RFC 5227 §2.1.1) and returns the first n
// answers. The link keeps the order of frames, so that an answer to an earlier
// probe would come before.
func (r *rig) askARP(t *testing.T, probes []netip.Addr, n int) []string {
	t.Helper()
	const etherTypeARP = 0x0806
	be := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, etherTypeARP))
	f := r.c.Socket(t, unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, int(be))
	defer f.Close()
	fd := int(f.Fd())
	req, err := unix.NewIfreq("tap0")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrLinklayer{Protocol: be, Ifindex: int(req.Uint32()), Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	for _, a := range probes {
		// Ethernet, IPv4, lengths of their addresses, request; then the sender,
		// whose IP address is not known yet, and the target (RFC 826).
		probe := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, r.s.Device().MAC()...)
		probe = append(probe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		probe = append(probe, a.AsSlice()...)
		if err := unix.Sendto(fd, probe, 0, to); err != nil {
			t.Fatal(err)
		}
	}
	var answers []string
	buf := make([]byte, 128)
	for end := time.Now().Add(attachtest.Patience); len(answers) < n; {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(end).Milliseconds()))
		if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		size, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EAGAIN && time.Now().Before(end) {
			continue
		}
		if err != nil {
			t.Fatalf("wait for answers, after %q: %v", answers, err)
		}
		const replyLen, opReply = 28, 2
		if size >= replyLen && buf[7] == opReply {
			a, _ := netip.AddrFromSlice(buf[14:18])
			answers = append(answers, fmt.Sprintf("%s is at %s", a, net.HardwareAddr(buf[8:14])))
		}
	}
	return answers
}

// writeScript returns the path of a shell script with the text.
func writeScript(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
