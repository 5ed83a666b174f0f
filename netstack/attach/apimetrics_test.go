// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack"
)

func TestExposition(t *testing.T) {
	families := countersOf([]netstack.Counter{
		{Name: "frames_in", Value: 1}, {Name: "bytes_in", Value: 2}, {Name: "frames_out", Value: 3},
		{Name: "flows_tcp", Value: 4}, {Name: "flows_spliced", Value: 5},
		{Name: "drop_no_socket", Value: 1<<64 - 1}, {Name: "refused_host_loopback", Value: 7},
	})
	families = append(families, gauge("slipway_info", "What it is.", sample{"version=" + quote("a\\b\"c\nd"), 1}))
	want := `# HELP slipway_frames_total Frames of the tap; in is from the container.
# TYPE slipway_frames_total counter
slipway_frames_total{direction="in"} 1
slipway_frames_total{direction="out"} 3
# HELP slipway_bytes_total Bytes in the frames of the tap; in is from the container.
# TYPE slipway_bytes_total counter
slipway_bytes_total{direction="in"} 2
# HELP slipway_flows_total Flows begun.
# TYPE slipway_flows_total counter
slipway_flows_total{proto="tcp"} 4
# HELP slipway_flows_spliced_total The counter flows_spliced of slipway.
# TYPE slipway_flows_spliced_total counter
slipway_flows_spliced_total 5
# HELP slipway_dropped_total Packets dropped.
# TYPE slipway_dropped_total counter
slipway_dropped_total{reason="no_socket"} 18446744073709551615
# HELP slipway_refused_total Packets that the policy refused.
# TYPE slipway_refused_total counter
slipway_refused_total{reason="host_loopback"} 7
# HELP slipway_info What it is.
# TYPE slipway_info gauge
slipway_info{version="a\\b\"c\nd"} 1
`
	if diff := cmp.Diff(want, string(exposition(families))); diff != "" {
		t.Errorf("exposition (-want +got):\n%s", diff)
	}
}

// TestCountersAreMetrics has a valid name, and one place, for each counter that
// there is.
func TestCountersAreMetrics(t *testing.T) {
	valid := regexp.MustCompile(`^slipway_[a-z0-9_]+_total(\{[a-z]+="[a-z0-9_]+"\})?$`)
	seen := map[string]string{}
	for _, c := range new(netstack.Network).Counters() {
		name, labels, help := place(c.Name)
		if labels != "" {
			name += "{" + labels + "}"
		}
		if !valid.MatchString(name) || help == "" || strings.Contains(help, "\n") {
			t.Errorf("the counter %s is %s: %s", c.Name, name, help)
		}
		if other := seen[name]; other != "" {
			t.Errorf("the counters %s and %s are both %s", c.Name, other, name)
		}
		seen[name] = c.Name
	}
	if len(seen) == 0 {
		t.Error("there is no counter")
	}
}
