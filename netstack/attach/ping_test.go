// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/netstack/policy"
)

func TestPing(t *testing.T) {
	r := start(t, func(cfg *attach.Config) {
		for _, f := range attachtest.Families() {
			rule, err := policy.ParseRule(policy.Deny, f.Nobody.Next().String())
			if err != nil {
				t.Fatal(err)
			}
			cfg.Rules = append(cfg.Rules, rule)
		}
	})
	attachtest.NeedTools(t, "ping")
	families(t, func(t *testing.T, f attachtest.Family) {
		// What ping(8) calls the errors differs between the families.
		words := func(v4, v6 string) string { return map[bool]string{false: v4, true: v6}[f.Is6()] }
		tests := []struct {
			name string
			args []string
			code int
			want string
		}{
			{"peer", []string{f.PeerAddr.String()}, 0, "1 received"},
			{"peer, long", []string{"-s", "20000", f.PeerAddr.String()}, 0, "1 received"},
			{"gateway", []string{r.family(f).Gateway.String()}, 0, "1 received"},
			{"resolver", []string{r.family(f).DNS.String()}, 0, "1 received"},
			{"nobody", []string{f.Nobody.String()}, 1, words("Destination Host Unreachable", "Destination unreachable: Address unreachable")},
			{"no route", []string{f.NoRoute.String()}, 1, words("Destination Net Unreachable", "Destination unreachable: No route")},
			{"denied", []string{f.Nobody.Next().String()}, 1, words("Packet filtered", "Destination unreachable: Administratively prohibited")},
			{"gateway as first hop", []string{"-t", "1", f.PeerAddr.String()}, 1, words("Time to live exceeded", "Time exceeded: Hop limit")},
			{"peer as second hop", []string{"-t", "2", f.PeerAddr.String()}, 0, "1 received"},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				args := append([]string{"env", "LC_ALL=C", "ping", "-n", "-c", "1", "-W", "10"}, tt.args...)
				out, code := r.c.Run(t, args...)
				if code != tt.code || !strings.Contains(out, tt.want) {
					t.Errorf("%v: exit code %d, want %d and %q in:\n%s", args, code, tt.code, tt.want, out)
				}
			})
		}
	})
}

// TestTraceroute sees the gateway as the first hop and the peer as the second. It
// is done by UDP only: once in some hundred times traceroute --icmp waits in vain
// for an answer that is on the wire and that the container's kernel has counted.
// It hears of hops on the socket of its replies, where the kernel sets the pending
// error after it has queued the message (raw_err in net/ipv4/raw.c): a reader on
// another processor could see one without the other.
func TestTraceroute(t *testing.T) {
	r := start(t, nil)
	attachtest.NeedTools(t, "traceroute")
	families(t, func(t *testing.T, f attachtest.Family) {
		out := r.c.Exec(t, "traceroute", "-n", "-q", "1", "-w", "10", "--udp", f.PeerAddr.String())
		var hops []string
		for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
			hops = append(hops, strings.Join(strings.Fields(line)[:2], " "))
		}
		want := "1 " + r.family(f).Gateway.String() + ", 2 " + f.PeerAddr.String()
		if got := strings.Join(hops, ", "); got != want {
			t.Errorf("hops %s, want %s", got, want)
		}
	})
}
