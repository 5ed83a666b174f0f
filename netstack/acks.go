// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

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
// Where little came in a turn, nobody waits for its acknowledgments to send more:
// they are kept for ackPatience, as any kernel delays them (RFC 1122 §4.2.3.2),
// while the loop has other things to do. Of short connections few are written then.
//
// While the loop is parked nothing is held: gVisor's timers may acknowledge then.
type ackHolder struct {
	holding atomic.Bool
	mu      sync.Mutex
	held    []heldAck // oldest first
	due     []heldAck // endTurn's
	turn    uint32
	now     time.Duration // when the turn began
	bulk    bool          // much came in this turn
	bytes   int           // how much: the loop's
	began   time.Duration // now: the loop's
}

// A heldAck is an acknowledgment that is held.
type heldAck struct {
	pkt   *stack.PacketBuffer
	ports uint32        // both ports of the segment, as they lie in it
	turn  uint32        // in which it was taken
	until time.Duration // when it must go; 0 if after a turn
}

const (
	// maxHeldAcks bounds the packets that are held.
	maxHeldAcks = 512
	// heldTurns is how many turns an acknowledgment is held for at least.
	heldTurns = 1
	// ackPatience is how long it may be held for where little came in. The
	// container's kernel would itself delay one by 40 ms (tcp_delack_min).
	ackPatience = 2 * time.Millisecond
	// ackBulk is what is no longer little (bytes of payload in a turn).
	ackBulk = 4 << 10
)

// hold begins to hold, or goes on; now is the loop's time. The loop calls it for
// each segment that gVisor may acknowledge.
func (h *ackHolder) hold(now time.Duration) {
	if h.holding.Load() && h.began == now {
		return
	}
	h.began = now
	h.mu.Lock()
	h.now = now
	h.mu.Unlock()
	h.holding.Store(true)
}

// passed is told of payload that passes on its way up; only the loop calls it.
func (h *ackHolder) passed(bytes int) {
	if h.bytes += bytes; h.bytes > ackBulk && !h.bulk {
		h.mu.Lock()
		h.bulk = true
		h.mu.Unlock()
	}
}

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
	ports := binary.NativeEndian.Uint32(tcp)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropSuperseded(pkt, ports, bare)
	if !bare || !h.holding.Load() || len(h.held) == maxHeldAcks {
		return false
	}
	a := heldAck{pkt: pkt.IncRef(), ports: ports, turn: h.turn}
	if !h.bulk {
		a.until = h.now + ackPatience
	}
	h.held = append(h.held, a)
	return true
}

// endTurn ends a turn of the loop: it writes what was held for long enough.
func (h *ackHolder) endTurn(now time.Duration, write func(*stack.PacketBuffer)) {
	if !h.holding.Load() {
		return
	}
	h.mu.Lock()
	h.due = h.due[:0]
	kept := h.held[:0]
	for _, a := range h.held {
		if h.turn-a.turn >= heldTurns && now >= a.until {
			h.due = append(h.due, a)
		} else {
			kept = append(kept, a)
		}
	}
	clear(h.held[len(kept):])
	h.held = kept
	h.turn++
	h.bulk, h.bytes = false, 0
	h.mu.Unlock()
	writeAll(h.due, write)
}

// release stops holding and writes all that is held.
func (h *ackHolder) release(write func(*stack.PacketBuffer)) {
	if !h.holding.Load() {
		return
	}
	h.mu.Lock()
	h.holding.Store(false)
	h.due, h.held = h.held, h.due[:0]
	h.turn++
	h.bulk, h.bytes = false, 0
	h.mu.Unlock()
	writeAll(h.due, write)
}

// dropSuperseded drops what pkt says too: it acknowledges as much of the same
// connection. Of bare acknowledgments it must be more, since one that acknowledges
// the same tells of a loss, or of a new window.
func (h *ackHolder) dropSuperseded(pkt *stack.PacketBuffer, ports uint32, bare bool) {
	for i := 0; i < len(h.held); {
		if a := &h.held[i]; a.ports != ports || !supersedes(pkt, a.pkt, bare) {
			i++
			continue
		}
		h.held[i].pkt.DecRef()
		last := len(h.held) - 1
		copy(h.held[i:], h.held[i+1:])
		h.held[last] = heldAck{}
		h.held = h.held[:last]
	}
}

func writeAll(acks []heldAck, write func(*stack.PacketBuffer)) {
	for i := range acks {
		write(acks[i].pkt)
		acks[i].pkt.DecRef()
		acks[i] = heldAck{}
	}
}

// supersedes reports whether pkt, of the same ports as old, makes it superfluous.
func supersedes(pkt, old *stack.PacketBuffer, bare bool) bool {
	if pkt.NetworkProtocolNumber != old.NetworkProtocolNumber || !sameAddresses(pkt, old) {
		return false
	}
	a, b := header.TCP(pkt.TransportHeader().Slice()), header.TCP(old.TransportHeader().Slice())
	have, had := seqnum.Value(a.AckNumber()), seqnum.Value(b.AckNumber())
	return had.LessThan(have) || !bare && had == have
}

func sameAddresses(a, b *stack.PacketBuffer) bool {
	x, y := a.Network(), b.Network()
	return x.SourceAddress() == y.SourceAddress() && x.DestinationAddress() == y.DestinationAddress()
}
