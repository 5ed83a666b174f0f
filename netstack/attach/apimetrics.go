// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/netstack"
)

// The text format of Prometheus is lines of a name, labels in braces and a number,
// under two lines of comment (its "Exposition formats", text format 0.0.4). The
// library that writes it, github.com/prometheus/common/expfmt, brings protocol
// buffers along: 2 MB of program, where these lines do.
const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// A family is the metrics of one name.
type family struct {
	name, kind, help string
	samples          []sample
}

// A sample is one number, and the label that tells it from the others of its family.
type sample struct {
	labels string // as they are written, without braces
	value  uint64
}

// A naming says which metric a counter is whose name has the prefix.
type naming struct {
	prefix, name, label, help string
	only                      []string // what may follow the prefix; nil for anything
}

// namings are all of them; the first that fits holds.
func namings() []naming {
	return []naming{
		{"frames_", "slipway_frames_total", "direction", "Frames of the tap; in is from the container.", nil},
		{"bytes_", "slipway_bytes_total", "direction", "Bytes in the frames of the tap; in is from the container.", nil},
		{"flows_", "slipway_flows_total", "proto", "Flows begun.", []string{"tcp", "udp", "ping"}},
		{"drop_", "slipway_dropped_total", "reason", "Packets dropped.", nil},
		{"refused_", "slipway_refused_total", "reason", "Packets that the policy refused.", nil},
	}
}

// place returns the metric of a counter, and its label. A counter that no naming
// fits is a metric by itself.
func place(counter string) (name, labels, help string) {
	for _, n := range namings() {
		rest, ok := strings.CutPrefix(counter, n.prefix)
		if ok && (n.only == nil || slices.Contains(n.only, rest)) {
			return n.name, n.label + "=" + quote(rest), n.help
		}
	}
	return "slipway_" + counter + "_total", "", "The counter " + counter + " of slipway."
}

// metrics answers with the counters as Prometheus reads them, and with gauges of the
// ports, the goroutines and the spliced path.
func (a *API) metrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTimeout)
	defer cancel()
	families := countersOf(a.session.network.Counters())
	families = append(families,
		gauge("slipway_goroutines", "Goroutines of the process.", sample{"", a.session.goroutines()}),
		portGauge(a.session),
		gauge("slipway_info", "What the session is.", sample{fmt.Sprintf("version=%s,path=%s,interface=%s",
			quote(a.session.cfg.Version), quote(a.session.Path()), quote(a.session.device.Name())), 1}))
	if h, err := a.session.network.Health(ctx); err == nil {
		open := gauge("slipway_splice_open", "Whether new TCP flows of the address family are spliced.")
		for _, s := range h.Splice {
			var value uint64
			if s.State == netstack.SpliceOpen {
				value = 1
			}
			open.samples = append(open.samples, sample{"family=" + quote(s.Family), value})
		}
		families = append(families, open)
	}
	w.Header().Set("Content-Type", metricsType)
	_, _ = w.Write(exposition(families)) // an error means that the client has gone
}

// countersOf returns the counters as families, in the order of each one's first.
func countersOf(counters []netstack.Counter) []family {
	var families []family
	for _, c := range counters {
		name, labels, help := place(c.Name)
		i := slices.IndexFunc(families, func(f family) bool { return f.name == name })
		if i < 0 {
			i = len(families)
			families = append(families, family{name: name, kind: "counter", help: help})
		}
		families[i].samples = append(families[i].samples, sample{labels, c.Value})
	}
	return families
}

func gauge(name, help string, samples ...sample) family {
	return family{name: name, kind: "gauge", help: help, samples: samples}
}

// portGauge counts the published ports.
func portGauge(s *Session) family {
	protos := map[string]uint64{"tcp": 0, "udp": 0}
	for _, p := range s.Ports().Ports() {
		protos[string(p.Proto)]++
	}
	return gauge("slipway_ports", "Published ports.",
		sample{`proto="tcp"`, protos["tcp"]}, sample{`proto="udp"`, protos["udp"]})
}

// exposition writes families in the text format.
func exposition(families []family) []byte {
	var b bytes.Buffer
	for _, f := range families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		for _, s := range f.samples {
			labels := s.labels
			if labels != "" {
				labels = "{" + labels + "}"
			}
			fmt.Fprintf(&b, "%s%s %d\n", f.name, labels, s.value)
		}
	}
	return b.Bytes()
}

// quote writes a label's value: backslash, quote and line feed are escaped, and
// nothing else may be.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
