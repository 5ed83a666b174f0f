// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// An ackHolder keeps acknowledgments without data until the end of the loop's
// next turn, or until the loop has nothing to do. gVisor acknowledges a segment
// before the loop has passed its bytes on to the host, and a write to a tap runs
// the whole receive path of the container's kernel: held back, that is not on the
// bytes' way, and where the answer comes in the next turn it carries the
// acknowledgment itself. Of several for one connection only the last is written.
//
// While the loop is parked nothing is held: gVisor's timers may acknowledge then.
type ackHolder struct {
	holding atomic.Bool
	mu      sync.Mutex
	fresh   []*stack.PacketBuffer // of this turn
	old     []*stack.PacketBuffer // of the turn before
}

// maxHeldAcks bounds the packets that are held of one turn.
const maxHeldAcks = 256

// hold begins to hold.
func (h *ackHolder) hold() { h.holding.Store(true) }

// take looks at a packet that is to be written: it keeps it, if it is to be held,
// and reports whether it did. What it makes superfluous is dropped.
func (h *ackHolder) take(pkt *stack.PacketBuffer) bool {
	if !h.holding.Load() || pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return false
	}
	tcp := header.TCP(pkt.TransportHeader().Slice())
	if tcp.Flags()&header.TCPFlagAck == 0 {
		return false
	}
	bare := pkt.Data().Size() == 0 && tcp.Flags() == header.TCPFlagAck
	h.mu.Lock()
	defer h.mu.Unlock()
	h.old = dropSuperseded(h.old, pkt, bare)
	h.fresh = dropSuperseded(h.fresh, pkt, bare)
	if !bare || !h.holding.Load() || len(h.fresh) == maxHeldAcks {
		return false
	}
	h.fresh = append(h.fresh, pkt.IncRef())
	return true
}

// endTurn ends a turn of the loop: it writes what was held for one.
func (h *ackHolder) endTurn(write func(*stack.PacketBuffer)) {
	if !h.holding.Load() {
		return
	}
	h.mu.Lock()
	due := h.old
	h.old, h.fresh = h.fresh, nil
	h.mu.Unlock()
	release(due, write)
}

// release stops holding and writes all that is held.
func (h *ackHolder) release(write func(*stack.PacketBuffer)) {
	if !h.holding.Load() {
		return
	}
	h.mu.Lock()
	h.holding.Store(false)
	old, fresh := h.old, h.fresh
	h.old, h.fresh = nil, nil
	h.mu.Unlock()
	release(old, write)
	release(fresh, write)
}

func release(pkts []*stack.PacketBuffer, write func(*stack.PacketBuffer)) {
	for _, pkt := range pkts {
		write(pkt)
		pkt.DecRef()
	}
}

// dropSuperseded drops from held what pkt says too: it acknowledges as much of
// the same connection. Of bare acknowledgments it must be more, since one that
// acknowledges the same tells of a loss, or of a new window.
func dropSuperseded(held []*stack.PacketBuffer, pkt *stack.PacketBuffer, bare bool) []*stack.PacketBuffer {
	kept := held[:0]
	for _, old := range held {
		if supersedes(pkt, old, bare) {
			old.DecRef()
		} else {
			kept = append(kept, old)
		}
	}
	clear(held[len(kept):])
	return kept
}

func supersedes(pkt, old *stack.PacketBuffer, bare bool) bool {
	a, b := header.TCP(pkt.TransportHeader().Slice()), header.TCP(old.TransportHeader().Slice())
	if a.SourcePort() != b.SourcePort() || a.DestinationPort() != b.DestinationPort() ||
		pkt.NetworkProtocolNumber != old.NetworkProtocolNumber || !sameAddresses(pkt, old) {
		return false
	}
	have, had := seqnum.Value(a.AckNumber()), seqnum.Value(b.AckNumber())
	return had.LessThan(have) || !bare && had == have
}

func sameAddresses(a, b *stack.PacketBuffer) bool {
	x, y := a.Network(), b.Network()
	return x.SourceAddress() == y.SourceAddress() && x.DestinationAddress() == y.DestinationAddress()
}
