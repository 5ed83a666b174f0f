// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"
)

// A Metric is one number that a case yields.
type Metric struct {
	Name   string `json:"name"`
	Unit   string `json:"unit"`
	Higher bool   `json:"higher"` // whether more is better
	// Bounded says that the direct path is the limit: a subject that beats it by
	// more than the noise did not do the work.
	Bounded bool `json:"bounded"`
	Detail  bool `json:"detail"` // left out of the table's main part
	Helper  bool `json:"helper"` // says something about the helper only
}

// unitYesNo is the unit of a metric that is 1 for yes and 0 for no.
const unitYesNo = "yes or no"

// A Case is one kind of measurement. It keeps no state between runs. How it is run,
// networkCase and launchCase say.
type Case interface {
	// Name is the case's path-like name, which -cases matches.
	Name() string
	// Wide reports whether the case runs at every MTU, congestion control and
	// family of the plan; the others run at the first of each.
	Wide() bool
	// NeedsHelper reports whether the case says something about the helper only,
	// so that it does not apply to the direct path.
	NeedsHelper() bool
	// Metrics names what a run returns; the first is the case's main result.
	Metrics() []Metric
}

// A networkCase is one of a network helper.
type networkCase interface {
	Case
	// run measures once. The values are by metric name; detail is whatever else is
	// worth keeping in the JSON, and may be nil.
	run(ctx context.Context, b *bout) (values map[string]float64, detail any, err error)
}

// A rare case is run less often than the plan's repeats say.
type rare interface {
	// rounds is how often at most the case runs for each subject.
	rounds(p Plan) int
}

// A priced case takes another time than the plan's warm-up and window.
type priced interface {
	// price is about how long one run takes, without making and taking down what it
	// runs in.
	price(p Plan) time.Duration
}

// A delayed case runs on a path that delays.
type delayed interface {
	// delay is the time that each frame between host and peer takes, one way.
	delay() time.Duration
}

// allCases returns every case of network helpers in the order in which they run and
// are shown.
func allCases() []Case {
	var all []Case
	for _, streams := range []int{1, 8} {
		for _, up := range []bool{true, false} {
			all = append(all, throughputCase{streams: streams, up: up})
		}
	}
	for _, up := range []bool{true, false} {
		all = append(all, iperfCase{up: up})
	}
	for _, n := range []int{1, 16, 64} {
		all = append(all, connectCase{atOnce: n})
	}
	all = append(all, connectCase{atOnce: 16, serverCloses: true})
	for _, size := range []int{1, 16 << 10} {
		all = append(all, roundTripCase{size: size})
	}
	for _, size := range []int{64, 1400, 8192} {
		for _, up := range []bool{true, false} {
			all = append(all, udpCase{size: size, up: up})
		}
	}
	all = append(all, loopbackCases()...)
	all = append(all, publishCases()...)
	for _, n := range []int{1, 16} {
		all = append(all, dnsCase{atOnce: n})
	}
	for _, up := range []bool{true, false} {
		all = append(all, fairnessCase{up: up})
	}
	all = append(all, pullCase{}, podmanCase{podmanRun}, podmanCase{podmanBuild}, memoryCase{}, startCase{}, longConnectCase{})
	for _, streams := range []int{1, longStreams} {
		for _, up := range []bool{true, false} {
			all = append(all, longThroughputCase{streams: streams, up: up})
		}
	}
	return all
}

// direction names a direction as the drawing does.
func direction(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
