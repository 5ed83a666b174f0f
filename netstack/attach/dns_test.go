// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

func TestDNS(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	for _, upstream := range attachtest.Families() {
		t.Run("upstream "+upstream.Name, func(t *testing.T) {
			server := netip.AddrPortFrom(upstream.PeerAddr, 5353)
			attachtest.Open(t).Peer.ServeDNS(t, server)
			r := start(t, func(cfg *attach.Config) { cfg.DNS = []netip.AddrPort{server} })
			families(t, func(t *testing.T, f attachtest.Family) {
				for _, tt := range []struct {
					name string
					args []string
					want string
				}{
					{"UDP", []string{"short.example."}, `"by udp"`},
					{"TCP", []string{"+tcp", "short.example."}, `"by tcp"`},
					{"truncated", []string{attachtest.LongName}, `"by tcp"`},
				} {
					t.Run(tt.name, func(t *testing.T) {
						args := []string{"dig", "+short", "+tries=1", "+timeout=10", "@" + r.family(f).DNS.String(), "TXT"}
						out := r.c.Exec(t, append(args, tt.args...)...)
						lines := strings.Split(strings.TrimSpace(out), "\n")
						if got := lines[len(lines)-1]; got != tt.want {
							t.Errorf("answer %q, want %q", out, tt.want)
						}
					})
				}
			})
		})
	}
}

// TestDNSFailover asks a resolver that does not answer first.
func TestDNSFailover(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	f := attachtest.Families()[0]
	server := netip.AddrPortFrom(f.PeerAddr, 5353)
	attachtest.Open(t).Peer.ServeDNS(t, server)
	r := start(t, func(cfg *attach.Config) {
		cfg.DNS = []netip.AddrPort{netip.AddrPortFrom(f.PeerAddr, 5354), server} // refused
	})
	out := r.c.Exec(t, "dig", "+short", "+tries=1", "+timeout=10", "@"+r.plan.V4.DNS.String(), "TXT", "short.example.")
	if got := strings.TrimSpace(out); got != `"by udp"` {
		t.Errorf("answer %q, want that of the second resolver", got)
	}
}

// TestNoDNS has nobody at the resolver's address.
func TestNoDNS(t *testing.T) {
	attachtest.NeedTools(t, "dig")
	r := start(t, func(cfg *attach.Config) { cfg.NoDNS = true })
	families(t, func(t *testing.T, f attachtest.Family) {
		out, code := r.c.Run(t, "dig", "+tries=1", "+timeout=10", "@"+r.family(f).DNS.String(), "short.example.")
		if code == 0 || !strings.Contains(out, "refused") {
			t.Errorf("dig: exit code %d, want a refusal: %s", code, out)
		}
	})
}
