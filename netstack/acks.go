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
// turn. gVisor acknowledges a segment before the loop has passed its bytes on to
// the host, and a write to a tap runs the whole receive path of the container's
// kernel: held back, that is not on the bytes' way, and of several
// acknowledgments for one connection only the last is written.
//
// Between turns nothing is held: gVisor's timers may acknowledge then.
type ackHolder struct {
	holding atomic.Bool
	mu      sync.Mutex
	held    []*stack.PacketBuffer
	spare   []*stack.PacketBuffer // the loop's: the array that held was before
}

// maxHeldAcks bounds the packets that wait for the end of a turn.
const maxHeldAcks = 256

// hold begins a turn.
func (h *ackHolder) hold() { h.holding.Store(true) }

// take keeps pkt, if it is to be held, and reports whether it did.
func (h *ackHolder) take(pkt *stack.PacketBuffer) bool {
	if !h.holding.Load() || pkt.Data().Size() != 0 || pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return false
	}
	tcp := header.TCP(pkt.TransportHeader().Slice())
	if tcp.Flags() != header.TCPFlagAck {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.holding.Load() || len(h.held) == maxHeldAcks {
		return false
	}
	for i, old := range h.held {
		if supersedes(pkt, old) {
			old.DecRef()
			h.held[i] = pkt.IncRef()
			return true
		}
	}
	h.held = append(h.held, pkt.IncRef())
	return true
}

// release ends a turn: it writes what was held.
func (h *ackHolder) release(write func(*stack.PacketBuffer)) {
	if !h.holding.Load() {
		return
	}
	h.mu.Lock()
	h.holding.Store(false)
	held := h.held
	h.held = h.spare[:0]
	h.mu.Unlock()
	for _, pkt := range held {
		write(pkt)
		pkt.DecRef()
	}
	clear(held)
	h.spare = held
}

// supersedes reports whether pkt says all that old says: it acknowledges more of
// the same connection. One that acknowledges as much is a duplicate, which tells
// of a loss and must be seen, or a new window.
func supersedes(pkt, old *stack.PacketBuffer) bool {
	a, b := header.TCP(pkt.TransportHeader().Slice()), header.TCP(old.TransportHeader().Slice())
	return a.SourcePort() == b.SourcePort() && a.DestinationPort() == b.DestinationPort() &&
		seqnum.Value(b.AckNumber()).LessThan(seqnum.Value(a.AckNumber())) &&
		pkt.NetworkProtocolNumber == old.NetworkProtocolNumber &&
		sameAddresses(pkt, old)
}

func sameAddresses(a, b *stack.PacketBuffer) bool {
	x, y := a.Network(), b.Network()
	return x.SourceAddress() == y.SourceAddress() && x.DestinationAddress() == y.DestinationAddress()
}
