// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"strings"
	"sync/atomic"

	"github.com/slipway-net/slipway/netstack/policy"
)

// counter numbers one of the Network's counters.
type counter int

const (
	framesIn counter = iota
	bytesIn
	framesOut
	bytesOut
	flowsTCP
	flowsUDP
	flowsUDPIn
	flowsPing
	flowsEvicted
	flowsSpliced
	spliceMissed
	connectsFailed
	dnsQueries
	dropMalformed
	dropSpoofed
	dropProtocol
	dropMulticast
	dropFlowLimit
	dropBandwidth
	dropNoSocket
	dropNoAnswer
	dropSend
	dropClient
	dropTapWrite
	numCounters
)

// counterNames are the counters' names as they are shown; the first part says
// what kind of thing is counted.
var counterNames = [numCounters]string{
	framesIn:       "frames_in",
	bytesIn:        "bytes_in",
	framesOut:      "frames_out",
	bytesOut:       "bytes_out",
	flowsTCP:       "flows_tcp",
	flowsUDP:       "flows_udp",
	flowsUDPIn:     "flows_udp_in",
	flowsPing:      "flows_ping",
	flowsEvicted:   "flows_evicted",
	flowsSpliced:   "flows_spliced",
	spliceMissed:   "splice_missed",
	connectsFailed: "connects_failed",
	dnsQueries:     "dns_queries",
	dropMalformed:  "drop_malformed",
	dropSpoofed:    "drop_spoofed",
	dropProtocol:   "drop_protocol",
	dropMulticast:  "drop_multicast",
	dropFlowLimit:  "drop_flow_limit",
	dropBandwidth:  "drop_bandwidth",
	dropNoSocket:   "drop_no_socket",
	dropNoAnswer:   "drop_no_answer",
	dropSend:       "drop_send",
	dropClient:     "drop_client",
	dropTapWrite:   "drop_tap_write",
}

// counters are read and written by any goroutine.
type counters struct {
	n       [numCounters]atomic.Uint64
	refused [policy.NumReasons]atomic.Uint64
}

func (c *counters) inc(i counter)           { c.n[i].Add(1) }
func (c *counters) add(i counter, n uint64) { c.n[i].Add(n) }

// Counter is one counter's name and value since the Network was made.
type Counter struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// Counters returns all counters in a fixed order: what was carried, what was
// dropped and why, and what the policy refused, by reason. Any goroutine may
// call it.
func (n *Network) Counters() []Counter {
	cs := make([]Counter, 0, int(numCounters)+policy.NumReasons)
	for i := range numCounters {
		cs = append(cs, Counter{counterNames[i], n.count.n[i].Load()})
	}
	for r := range policy.Reason(policy.NumReasons) {
		if r.Answer() != policy.AnswerNone {
			name := "refused_" + strings.ReplaceAll(r.String(), "-", "_")
			cs = append(cs, Counter{name, n.count.refused[r].Load()})
		}
	}
	return cs
}
