// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPartSaysWhatIsLost has a kernel that lacks an expression, for one family or
// for both.
func TestPartSaysWhatIsLost(t *testing.T) {
	const missing4, missing6, both = 1 << 0, 1 << 1, 3
	for _, tt := range []struct {
		name    string
		part    string
		missing int
		says    string // in the check's detail; empty where it is well
	}{
		{"nothing", "tproxy", 0, ""},
		{"all", "tproxy", both, "no such file or directory; TCP is stacked"},
		{"IPv4", "nftables chains that route", missing4, "for IPv4: no such file or directory; TCP is stacked"},
		{"IPv6", "nftables sets that packets add to", missing6, "for IPv6: no such file or directory; TCP over IPv6 is stacked"},
		{"conntrack", "conntrack", both, "connections of containers behind a bridge in the container are stacked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := newScript()
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			s.unshare()
			var part probe
			for _, p := range probes() {
				if p.name == tt.part {
					part = p
				}
			}
			var steps [len(nftFamilies)]int
			for i, f := range nftFamilies {
				rule := part.rule(f)
				if tt.missing>>i&1 != 0 {
					rule.exprs = []expr{{"nosuch", nil}}
				}
				steps[i] = s.probe("make a rule for "+f.name, unix.NETLINK_NETFILTER, rule.batch(f))
			}
			if err := s.run(); err != nil {
				t.Fatal(err)
			}
			c := s.part(part, steps)
			if c.OK != (tt.says == "") || !strings.HasSuffix(c.Detail, tt.says) || c.OK == (c.Fix != "") {
				t.Errorf("%+v, want a detail that ends in %q", c, tt.says)
			}
		})
	}
}
