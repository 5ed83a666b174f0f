// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"time"

	"github.com/slipway-net/slipway/netstack/splice"
)

// The states of the spliced path for one address family.
const (
	SpliceOff    = "off"    // there is none: TCP is stacked
	SpliceClosed = "closed" // it did not work; a probe will try it again
	SpliceTrying = "trying" // a probe is under way
	SpliceOpen   = "open"   // new flows take it
)

// Health is how the Network is at one moment.
type Health struct {
	// Lag is how long the loop took to answer.
	Lag time.Duration `json:"lag_ns"`
	// Splice is the state of the spliced path, by address family, IPv4 first.
	Splice []SpliceHealth `json:"splice"`
}

// SpliceHealth is the state of the spliced path for one address family of the plan.
type SpliceHealth struct {
	Family string `json:"family"` // "IPv4" or "IPv6"
	State  string `json:"state"`
	// Why says what closed the path last; empty where nothing did since it opened.
	Why string `json:"why,omitempty"`
}

// Health asks the loop how it is. Any goroutine may call it while Run runs; it
// returns the error of ctx where the loop has not answered when ctx is done.
func (n *Network) Health(ctx context.Context) (Health, error) {
	asked, got := time.Now(), make(chan Health, 1)
	n.loop.Post(func() { got <- Health{Splice: n.tcp.kernel.health()} })
	select {
	case h := <-got:
		h.Lag = time.Since(asked)
		return h, nil
	case <-ctx.Done():
		return Health{}, ctx.Err()
	}
}

// health returns the state of each family of the plan.
func (k *kernelPath) health() []SpliceHealth {
	var hs []SpliceHealth
	for _, f := range k.n.cfg.Plan.Families() {
		i := splice.FamilyOf(f.Gateway)
		h := SpliceHealth{Family: familyNames[i], State: SpliceOff}
		if k.hairpin != nil && k.hairpin.Listeners()[i] >= 0 {
			h.State, h.Why = k.ways[i].state.String(), k.ways[i].why
		}
		hs = append(hs, h)
	}
	return hs
}

// String returns the state as SpliceHealth names it.
func (s pathState) String() string {
	return [...]string{pathClosed: SpliceClosed, pathTrying: SpliceTrying, pathOpened: SpliceOpen}[s]
}
