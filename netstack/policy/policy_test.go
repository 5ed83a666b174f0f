// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/tap"
)

const (
	icmp   = 1
	tcp    = 6
	udp    = 17
	icmpv6 = 58
)

func mustPlan(t testing.TB, cidr4, cidr6 string) tap.Plan {
	t.Helper()
	var p4, p6 netip.Prefix
	if cidr4 != "" {
		p4 = netip.MustParsePrefix(cidr4)
	}
	if cidr6 != "" {
		p6 = netip.MustParsePrefix(cidr6)
	}
	p, err := tap.NewPlan(p4, p6)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustRules(t testing.TB, specs ...string) []policy.Rule {
	t.Helper()
	var rs []policy.Rule
	for _, s := range specs {
		action := policy.Allow
		if s[0] == '-' {
			action = policy.Deny
		}
		r, err := policy.ParseRule(action, s[1:])
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

func mustLoopback(t testing.TB, specs ...string) []policy.LoopbackAt {
	t.Helper()
	var all []policy.LoopbackAt
	for _, s := range specs {
		ls, err := policy.ParseLoopback(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ls...)
	}
	return all
}

func mustSockets(t testing.TB, specs ...string) []policy.SocketAt {
	t.Helper()
	var all []policy.SocketAt
	for _, s := range specs {
		k, err := policy.ParseSocket(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	return all
}

func mustPolicy(t testing.TB, c policy.Config) *policy.Policy {
	t.Helper()
	p, err := policy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDecide(t *testing.T) {
	both := mustPlan(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
	open := []string{"+0.0.0.0/0", "+::/0"}
	gateways := []string{"10.0.2.2", "fd00::2"}
	tests := []struct {
		name    string
		plan    tap.Plan
		rules   []string
		mapped  []string
		sockets []string
		proto   uint8
		dst     string
		reason  policy.Reason
		answer  policy.Answer
		dial    string // empty: denied, or a socket
		socket  string
	}{
		{name: "internet v4", dst: "192.0.2.1:443", reason: policy.Default, dial: "192.0.2.1:443"},
		{name: "internet v6", dst: "[2001:db8::1]:443", reason: policy.Default, dial: "[2001:db8::1]:443"},
		{name: "ping", proto: icmp, dst: "192.0.2.1:0", reason: policy.Default, dial: "192.0.2.1:0"},
		{name: "ping v6", proto: icmpv6, dst: "[2001:db8::1]:0", reason: policy.Default, dial: "[2001:db8::1]:0"},
		{name: "port 0", dst: "192.0.2.1:0", reason: policy.NoSuchService, answer: policy.AnswerPortUnreachable},

		{name: "loopback v4", rules: open, dst: "127.0.0.1:80", reason: policy.Loopback, answer: policy.AnswerNetUnreachable},
		{name: "loopback v4 end", rules: open, dst: "127.255.255.255:80", reason: policy.Loopback, answer: policy.AnswerNetUnreachable},
		{name: "loopback v6", rules: open, dst: "[::1]:80", reason: policy.Loopback, answer: policy.AnswerNetUnreachable},
		{name: "mapped loopback", rules: open, dst: "[::ffff:127.0.0.1]:80", reason: policy.Mapped, answer: policy.AnswerNetUnreachable},
		{name: "mapped internet", rules: open, dst: "[::ffff:192.0.2.1]:80", reason: policy.Mapped, answer: policy.AnswerNetUnreachable},
		{name: "mapped gateway", rules: open, mapped: gateways, dst: "[::ffff:10.0.2.2]:80", reason: policy.Mapped, answer: policy.AnswerNetUnreachable},
		{name: "compatible", rules: open, dst: "[::127.0.0.1]:80", reason: policy.Mapped, answer: policy.AnswerNetUnreachable},
		{name: "this network", rules: open, dst: "0.1.2.3:80", reason: policy.Unspecified, answer: policy.AnswerNetUnreachable},
		{name: "unspecified v4", rules: open, dst: "0.0.0.0:80", reason: policy.Unspecified, answer: policy.AnswerNetUnreachable},
		{name: "unspecified v6", rules: open, dst: "[::]:80", reason: policy.Unspecified, answer: policy.AnswerNetUnreachable},
		{name: "multicast v4", rules: open, proto: udp, dst: "224.0.0.251:5353", reason: policy.Multicast, answer: policy.AnswerSilence},
		{name: "multicast v6", rules: open, proto: udp, dst: "[ff02::fb]:5353", reason: policy.Multicast, answer: policy.AnswerSilence},
		{name: "limited broadcast", rules: open, proto: udp, dst: "255.255.255.255:67", reason: policy.Broadcast, answer: policy.AnswerSilence},
		{name: "directed broadcast", rules: open, proto: udp, dst: "10.0.2.255:137", reason: policy.Broadcast, answer: policy.AnswerSilence},
		{name: "class E", rules: open, dst: "240.0.0.1:80", reason: policy.Reserved, answer: policy.AnswerNetUnreachable},
		{name: "zone", rules: open, dst: "[fe80::1%eth0]:80", reason: policy.Invalid, answer: policy.AnswerSilence},

		{name: "gateway", dst: "10.0.2.2:22", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "gateway v6", dst: "[fd00::2]:22", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "gateway despite allow", rules: open, dst: "10.0.2.2:22", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "gateway mapped", mapped: gateways, dst: "10.0.2.2:22", reason: policy.HostLoopback, dial: "127.0.0.1:22"},
		{name: "gateway v6 mapped", mapped: gateways, dst: "[fd00::2]:22", reason: policy.HostLoopback, dial: "[::1]:22"},
		{name: "gateway mapped but denied", mapped: gateways, rules: []string{"-10.0.2.2:22/tcp"}, dst: "10.0.2.2:22", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "gateway mapped, one port denied", mapped: gateways, rules: []string{"-10.0.2.2:22/tcp"}, dst: "10.0.2.2:23", reason: policy.HostLoopback, dial: "127.0.0.1:23"},
		{name: "gateway mapped, one port allowed", mapped: gateways, rules: []string{"+10.0.2.2:22", "-10.0.2.2"}, dst: "10.0.2.2:22", reason: policy.HostLoopback, dial: "127.0.0.1:22"},
		{name: "gateway mapped but not for udp", mapped: []string{"10.0.2.2/tcp"}, proto: udp, dst: "10.0.2.2:22", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped", mapped: []string{"10.0.2.2:22"}, dst: "10.0.2.2:22", reason: policy.HostLoopback, dial: "127.0.0.1:22"},
		{name: "one port mapped, udp", mapped: []string{"10.0.2.2:22"}, proto: udp, dst: "10.0.2.2:22", reason: policy.HostLoopback, dial: "127.0.0.1:22"},
		{name: "one port mapped, port below", mapped: []string{"10.0.2.2:22"}, dst: "10.0.2.2:21", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped, port above", mapped: []string{"10.0.2.2:22"}, dst: "10.0.2.2:23", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped, other protocol", mapped: []string{"10.0.2.2:22/tcp"}, proto: udp, dst: "10.0.2.2:22", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped, ping", mapped: []string{"10.0.2.2:22"}, proto: icmp, dst: "10.0.2.2:0", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped, another address", mapped: []string{"10.0.2.9:22"}, dst: "10.0.2.2:22", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped at an address of nobody", mapped: []string{"10.0.2.9:22"}, dst: "10.0.2.9:23", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped of the host's network", mapped: []string{"192.0.2.1:22"}, rules: open, dst: "192.0.2.1:23", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "one port mapped but denied", mapped: []string{"10.0.2.2:22"}, rules: []string{"-10.0.2.2"}, dst: "10.0.2.2:22", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "range mapped", mapped: []string{"[fd00::2]:8000-8010=9000"}, dst: "[fd00::2]:8010", reason: policy.HostLoopback, dial: "[::1]:9010"},
		{name: "range mapped, its target", mapped: []string{"[fd00::2]:8000-8010=9000"}, dst: "[fd00::2]:9000", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "list mapped", mapped: []string{"10.0.2.2:80=8080,5432/tcp"}, dst: "10.0.2.2:80", reason: policy.HostLoopback, dial: "127.0.0.1:8080"},
		{name: "list mapped, second", mapped: []string{"10.0.2.2:80=8080,5432/tcp"}, dst: "10.0.2.2:5432", reason: policy.HostLoopback, dial: "127.0.0.1:5432"},
		{name: "list mapped, second's protocol", mapped: []string{"10.0.2.2:80=8080,5432/tcp"}, proto: udp, dst: "10.0.2.2:5432", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},

		{name: "socket", sockets: []string{"80=/s"}, dst: "10.0.2.2:80", reason: policy.HostSocket, socket: "/s"},
		{name: "socket v6", sockets: []string{"80=/s"}, dst: "[fd00::2]:80", reason: policy.HostSocket, socket: "/s"},
		{name: "socket, other port", sockets: []string{"80=/s"}, dst: "10.0.2.2:81", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "socket, udp", sockets: []string{"80=/s"}, proto: udp, dst: "10.0.2.2:80", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "socket despite deny", sockets: []string{"80=/s"}, rules: []string{"-0.0.0.0/0", "-10.0.2.2:80"}, dst: "10.0.2.2:80", reason: policy.HostSocket, socket: "/s"},
		{name: "socket before loopback", sockets: []string{"80=/s"}, mapped: gateways, dst: "10.0.2.2:80", reason: policy.HostSocket, socket: "/s"},
		{name: "loopback beside socket", sockets: []string{"80=/s"}, mapped: gateways, dst: "10.0.2.2:81", reason: policy.HostLoopback, dial: "127.0.0.1:81"},
		{name: "second socket", sockets: []string{"80=/s", "10.0.2.50:80=/t"}, dst: "10.0.2.50:80", reason: policy.HostSocket, socket: "/t"},
		{name: "socket at an address of nobody, other port", sockets: []string{"10.0.2.50:80=/t"}, dst: "10.0.2.50:81", reason: policy.HostLoopbackOff, answer: policy.AnswerPortUnreachable},
		{name: "socket at the resolver", sockets: []string{"10.0.2.3:80=/t"}, dst: "10.0.2.3:80", reason: policy.HostSocket, socket: "/t"},

		{name: "link-local address mapped", mapped: []string{"169.254.1.2"}, dst: "169.254.1.2:22", reason: policy.HostLoopback, dial: "127.0.0.1:22"},
		{name: "resolver, not dns", rules: open, dst: "10.0.2.3:80", reason: policy.NoSuchService, answer: policy.AnswerPortUnreachable},
		{name: "resolver v6, not dns", dst: "[fd00::3]:80", reason: policy.NoSuchService, answer: policy.AnswerPortUnreachable},
		{name: "neighbour", rules: open, dst: "10.0.2.50:80", reason: policy.NoSuchHost, answer: policy.AnswerHostUnreachable},
		{name: "neighbour v6", rules: open, dst: "[fd00::50]:80", reason: policy.NoSuchHost, answer: policy.AnswerHostUnreachable},
		{name: "network address", dst: "10.0.2.0:80", reason: policy.NoSuchHost, answer: policy.AnswerHostUnreachable},

		{name: "link-local", dst: "169.254.1.1:80", reason: policy.LinkLocal, answer: policy.AnswerAdminProhibited},
		{name: "link-local v6", dst: "[fe80::1]:80", reason: policy.LinkLocal, answer: policy.AnswerAdminProhibited},
		{name: "metadata", dst: "169.254.169.254:80", reason: policy.Metadata, answer: policy.AnswerAdminProhibited},
		{name: "metadata v6", dst: "[fd00:ec2::254]:80", reason: policy.Metadata, answer: policy.AnswerAdminProhibited},
		{name: "metadata in shared space", dst: "100.100.100.200:80", reason: policy.Metadata, answer: policy.AnswerAdminProhibited},
		{name: "metadata through NAT64", dst: "[64:ff9b::169.254.169.254]:80", reason: policy.LinkLocal, answer: policy.AnswerAdminProhibited},
		{name: "metadata allowed", rules: []string{"+169.254.169.254:80/tcp"}, dst: "169.254.169.254:80", reason: policy.RuleAllow, dial: "169.254.169.254:80"},
		{name: "metadata allowed at another port", rules: []string{"+169.254.169.254:80/tcp"}, dst: "169.254.169.254:81", reason: policy.Metadata, answer: policy.AnswerAdminProhibited},

		{name: "denied network", rules: []string{"-10.0.0.0/8"}, dst: "10.9.9.9:80", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "first match allows", rules: []string{"+10.9.9.9", "-10.0.0.0/8"}, dst: "10.9.9.9:80", reason: policy.RuleAllow, dial: "10.9.9.9:80"},
		{name: "first match denies", rules: []string{"-10.0.0.0/8", "+10.9.9.9"}, dst: "10.9.9.9:80", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "range low", rules: []string{"-192.0.2.0/24:80-90"}, dst: "192.0.2.1:80", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "range high", rules: []string{"-192.0.2.0/24:80-90"}, dst: "192.0.2.1:90", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "above range", rules: []string{"-192.0.2.0/24:80-90"}, dst: "192.0.2.1:91", reason: policy.Default, dial: "192.0.2.1:91"},
		{name: "other protocol", rules: []string{"-192.0.2.0/24/udp"}, dst: "192.0.2.1:91", reason: policy.Default, dial: "192.0.2.1:91"},
		{name: "that protocol", proto: udp, rules: []string{"-192.0.2.0/24/udp"}, dst: "192.0.2.1:91", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "ports do not match ping", proto: icmp, rules: []string{"-192.0.2.0/24:1-65535"}, dst: "192.0.2.1:7", reason: policy.Default, dial: "192.0.2.1:7"},
		{name: "icmp rule matches ping", proto: icmpv6, rules: []string{"-2001:db8::/32/icmp"}, dst: "[2001:db8::1]:0", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},
		{name: "any rule matches ping", proto: icmp, rules: []string{"-192.0.2.0/24"}, dst: "192.0.2.1:0", reason: policy.RuleDeny, answer: policy.AnswerAdminProhibited},

		{name: "v6 off", plan: mustPlan(t, tap.DefaultCIDR4, ""), rules: open, dst: "[2001:db8::1]:80", reason: policy.FamilyOff, answer: policy.AnswerNetUnreachable},
		{name: "v4 off", plan: mustPlan(t, "", tap.DefaultCIDR6), rules: open, dst: "192.0.2.1:80", reason: policy.FamilyOff, answer: policy.AnswerNetUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := policy.Config{Plan: tt.plan, Rules: mustRules(t, tt.rules...), HostLoopback: mustLoopback(t, tt.mapped...), HostSockets: mustSockets(t, tt.sockets...)}
			if c.Plan == (tap.Plan{}) {
				c.Plan = both
			}
			proto := tt.proto
			if proto == 0 {
				proto = tcp
			}
			got := mustPolicy(t, c).Decide(proto, netip.MustParseAddrPort(tt.dst))
			want := policy.Decision{Reason: tt.reason, Socket: tt.socket, Verdict: policy.Verdict(tt.socket != "")}
			if tt.dial != "" {
				want.Verdict, want.Dial = policy.Allowed, netip.MustParseAddrPort(tt.dial)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("Decide(%d, %s) (-want +got):\n%s", proto, tt.dst, diff)
			}
			if got.Answer() != tt.answer {
				t.Errorf("answer = %v, want %v", got.Answer(), tt.answer)
			}
		})
	}
}

func TestDecideInvalid(t *testing.T) {
	p := mustPolicy(t, policy.Config{Plan: mustPlan(t, tap.DefaultCIDR4, "")})
	if got := p.Decide(tcp, netip.AddrPort{}); got.Verdict || got.Reason != policy.Invalid {
		t.Errorf("Decide of the zero address = %+v, want denied as invalid", got)
	}
	var zero policy.Config
	if got := mustPolicy(t, zero).Decide(tcp, netip.MustParseAddrPort("192.0.2.1:80")); got.Verdict {
		t.Errorf("a policy without a plan allows: %+v", got)
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	plan := mustPlan(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
	p := mustPolicy(t, policy.Config{
		Plan:         plan,
		Rules:        mustRules(t, "-10.0.0.0/8:1-1024/tcp", "+169.254.0.0/16", "-[2001:db8::/32]:80"),
		HostLoopback: mustLoopback(t, "10.0.2.2", "fd00::2"),
		HostSockets:  mustSockets(t, "80=/s"),
	})
	for _, s := range []string{"192.0.2.1:80", "[2001:db8::1]:80", "10.0.2.2:80", "[::ffff:1.2.3.4]:80", "169.254.1.1:80", "10.0.2.2:81"} {
		dst := netip.MustParseAddrPort(s)
		if n := testing.AllocsPerRun(100, func() { p.Decide(tcp, dst) }); n != 0 {
			t.Errorf("Decide(%s) makes %v allocations, want none", s, n)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	plan := mustPlan(t, tap.DefaultCIDR4, tap.DefaultCIDR6)
	tests := []struct {
		name   string
		config policy.Config
	}{
		{"zero rule", policy.Config{Plan: plan, Rules: []policy.Rule{{}}}},
		{"host bits", policy.Config{Plan: plan, Rules: []policy.Rule{{Action: policy.Allow, Prefix: netip.MustParsePrefix("10.0.0.1/8")}}}},
		{"zero address", policy.Config{Plan: plan, HostLoopback: []policy.LoopbackAt{{}}}},
		{"loopback", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "::1")}},
		{"container", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "10.0.2.100")}},
		{"container's port", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "10.0.2.100:80")}},
		{"resolver", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "fd00::3")}},
		{"broadcast", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "10.0.2.255")}},
		{"family off", policy.Config{Plan: mustPlan(t, tap.DefaultCIDR4, ""), HostLoopback: mustLoopback(t, "fd00::2")}},
		{"all ports and one", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "10.0.2.2", "10.0.2.2:80=8080")}},
		{"port twice", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "10.0.2.2:80-90", "10.0.2.2:85/tcp")}},
		{"two addresses with all ports", policy.Config{Plan: plan, HostLoopback: mustLoopback(t, "10.0.2.2", "10.0.2.9/udp")}},
		{"zero socket", policy.Config{Plan: plan, HostSockets: []policy.SocketAt{{}}}},
		{"socket at the container", policy.Config{Plan: plan, HostSockets: mustSockets(t, "10.0.2.100:80=/s")}},
		{"socket outside the network", policy.Config{Plan: plan, HostSockets: mustSockets(t, "192.0.2.1:80=/s")}},
		{"socket at the resolver's port", policy.Config{Plan: plan, HostSockets: mustSockets(t, "10.0.2.3:53=/s")}},
		{"socket in a family that is off", policy.Config{Plan: mustPlan(t, tap.DefaultCIDR4, ""), HostSockets: mustSockets(t, "[fd00::2]:80=/s")}},
		{"two sockets at one port", policy.Config{Plan: plan, HostSockets: mustSockets(t, "80=/a", "10.0.2.2:80=/b")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := policy.New(tt.config); err == nil {
				t.Error("New succeeded, want an error")
			}
		})
	}
}

func TestDirectedBroadcast(t *testing.T) {
	tests := []struct{ name, prefix, want string }{
		{"24", "10.0.2.0/24", "10.0.2.255"},
		{"22", "10.0.4.0/22", "10.0.7.255"},
		{"1", "0.0.0.0/1", "127.255.255.255"},
		{"30", "10.0.0.4/30", "10.0.0.7"},
		{"point to point", "10.0.0.0/31", ""},
		{"v6", "fd00::/64", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want netip.Addr
			if tt.want != "" {
				want = netip.MustParseAddr(tt.want)
			}
			if got := policy.DirectedBroadcast(netip.MustParsePrefix(tt.prefix)); got != want {
				t.Errorf("DirectedBroadcast(%s) = %v, want %v", tt.prefix, got, want)
			}
		})
	}
}

func TestReasonsHaveLabels(t *testing.T) {
	seen := map[string]bool{}
	for r := range policy.Reason(policy.NumReasons) {
		s := r.String()
		if seen[s] || s[0] == 'r' && s[len(s)-1] == ')' {
			t.Errorf("reason %d has no label of its own: %q", r, s)
		}
		seen[s] = true
	}
}

// FuzzDecide holds the one promise that matters: nothing that is allowed dials
// the host's loopback or a socket of it unless it was asked for at a mapped address.
func FuzzDecide(f *testing.F) {
	f.Add(uint8(tcp), []byte{127, 0, 0, 1}, uint16(80))
	f.Add(uint8(udp), []byte{10, 0, 2, 2}, uint16(53))
	f.Add(uint8(tcp), []byte{10, 0, 2, 9}, uint16(8081))
	f.Add(uint8(icmpv6), netip.MustParseAddr("::ffff:127.0.0.1").AsSlice(), uint16(0))
	plan := mustPlan(f, tap.DefaultCIDR4, tap.DefaultCIDR6)
	p := mustPolicy(f, policy.Config{
		Plan:         plan,
		Rules:        mustRules(f, "+0.0.0.0/0", "+::/0"),
		HostLoopback: mustLoopback(f, "10.0.2.2", "10.0.2.9:8080-8090=80/tcp"),
		HostSockets:  mustSockets(f, "10.0.2.10:80=/s"),
	})
	ports := netip.MustParseAddr("10.0.2.9")
	socket := netip.MustParseAddrPort("10.0.2.10:80")
	f.Fuzz(func(t *testing.T, proto uint8, addr []byte, port uint16) {
		a, _ := netip.AddrFromSlice(addr)
		d := p.Decide(proto, netip.AddrPortFrom(a, port))
		if (d.Answer() == policy.AnswerNone) != bool(d.Verdict) || bool(d.Verdict) != (d.Dial.IsValid() || d.Socket != "") {
			t.Fatalf("Decide(%v) = %+v is at odds with itself", a, d)
		}
		if d.Socket != "" && (proto != tcp || netip.AddrPortFrom(a, port) != socket) {
			t.Fatalf("Decide(%d, %v:%d) = %+v", proto, a, port, d)
		}
		if d.Dial.Addr().IsLoopback() {
			asked := a == plan.V4.Gateway || a == ports && proto == tcp && 8080 <= port && port <= 8090
			if again := p.Decide(proto, p.SeenAs(proto, d.Dial)); !asked || again.Dial != d.Dial {
				t.Fatalf("Decide(%d, %v:%d) = %+v; as that is seen it leads to %v", proto, a, port, d, again.Dial)
			}
			return
		}
		u := d.Dial.Addr().Unmap()
		if d.Dial.IsValid() && (u.IsUnspecified() || u.IsMulticast() || u != a || u.Is4() && u.As4()[0] == 0) {
			t.Fatalf("Decide(%v) = %+v", a, d)
		}
	})
}
