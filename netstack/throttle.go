// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"time"

	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/netstack/shape"
)

// Bandwidth bounds what a Network carries each way. The zero Bandwidth is no bound.
// Payload is counted of TCP, and whole frames of everything else.
type Bandwidth struct {
	Out shape.Rate // from the container
	In  shape.Rate // to the container
}

// A throttle has the TCP flows wait that found the bucket of their direction empty, and
// goes on with them in turn. It belongs to the loop.
type throttle struct {
	n       *Network
	bucket  *shape.Bucket // nil: there is no bound, and nobody waits
	waiting []*tcpFlow
	timer   *time.Timer
}

// initThrottles sets up both directions.
func (n *Network) initThrottles() {
	for which, r := range map[int]shape.Rate{relay.Container: n.cfg.Bandwidth.Out, relay.Host: n.cfg.Bandwidth.In} {
		b := shape.New(r)
		n.throttles[which] = throttle{n: n, bucket: b}
		n.tcp.kernel.pool.Buckets[which] = b
	}
	n.emit.bucket = n.throttles[relay.Host].bucket
	if n.throttles[relay.Container].bucket != nil {
		n.tcp.pump.gather.limit = shape.Quantum
	}
}

// ready reports whether the flow may move bytes that come from that end. If not, it will
// be moved again when it may.
func (n *Network) ready(which int, f *tcpFlow) bool {
	t := &n.throttles[which]
	if t.bucket.Ready() {
		return true
	}
	t.wait(f, which)
	return false
}

// wait has a flow wait.
func (t *throttle) wait(f *tcpFlow, which int) {
	if f.throttled[which] {
		return
	}
	f.throttled[which] = true
	t.waiting = append(t.waiting, f)
	if len(t.waiting) > 1 {
		return
	}
	release := func() { t.n.loop.Post(func() { t.release(which) }) }
	if t.timer == nil {
		t.timer = time.AfterFunc(t.bucket.Wait(), release)
		return
	}
	t.timer.Reset(t.bucket.Wait())
}

// release goes on with those that wait, the first of them first. Who finds the bucket
// empty again is behind the others then.
func (t *throttle) release(which int) {
	list := t.waiting
	t.waiting = nil
	for i, f := range list {
		if !t.bucket.Ready() {
			// The rest keeps its place.
			again := t.waiting
			t.waiting = nil
			for _, f := range append(list[i:], again...) {
				f.throttled[which] = false
				t.wait(f, which)
			}
			return
		}
		f.throttled[which] = false
		if f.spliced != nil {
			f.splice()
		} else {
			f.move()
		}
	}
}

// stopThrottles ends the timers.
func (n *Network) stopThrottles() {
	for i := range n.throttles {
		if t := n.throttles[i].timer; t != nil {
			t.Stop()
		}
		n.throttles[i].waiting = nil
	}
}
