// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// tcpPacket is a segment as gVisor hands it to the link: from port 80 of a fixed
// host.
func tcpPacket(t *testing.T, port uint16, ack uint32, flags header.TCPFlags, payload int) *stack.PacketBuffer {
	t.Helper()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.IPv4MinimumSize + header.TCPMinimumSize,
		Payload:            buffer.MakeWithData(make([]byte, payload)),
	})
	header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize)).Encode(&header.TCPFields{
		SrcPort: 80, DstPort: port, AckNum: ack, DataOffset: header.TCPMinimumSize, Flags: flags,
	})
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	h := ipHeader{src: netip.MustParseAddr("198.51.100.1"), dst: netip.MustParseAddr("10.0.2.100"), proto: protoTCP}
	putIPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize), h, header.TCPMinimumSize+payload, 1)
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	return pkt
}

// TestAckHolder plays turns of the loop and looks at what is written when. Each
// step is a segment that gVisor writes, or the end of a turn after some time.
func TestAckHolder(t *testing.T) {
	type step struct {
		port    uint16 // 0: the turn ends
		ack     uint32
		flags   header.TCPFlags
		payload int
		came    int // payload that the turn brought before
		after   time.Duration
		park    bool // the loop has nothing to do
	}
	const ack, fin = header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagFin
	turn := step{after: time.Microsecond}
	late := step{after: ackPatience}
	tests := []struct {
		name  string
		steps []step
		want  []uint32 // acknowledgment numbers, as written; 0 ends a turn
	}{
		{"a turn is not enough", []step{{port: 1, ack: 10, flags: ack}, turn, turn, turn}, []uint32{0, 0, 0}},
		{"patience ends", []step{{port: 1, ack: 10, flags: ack}, turn, late}, []uint32{0, 10, 0}},
		{"a turn is enough where much came", []step{{port: 1, ack: 10, flags: ack, came: ackBulk + 1}, turn, turn}, []uint32{0, 10, 0}},
		{"parking ends patience", []step{{port: 1, ack: 10, flags: ack}, {park: true}}, []uint32{10, 0}},
		{"data carries it", []step{{port: 1, ack: 10, flags: ack}, turn, {port: 1, ack: 10, flags: ack, payload: 1}, late}, []uint32{0, 10, 0}},
		{"a FIN carries it", []step{{port: 1, ack: 10, flags: ack}, {port: 1, ack: 11, flags: fin}, late}, []uint32{11, 0}},
		{"a later one replaces it", []step{{port: 1, ack: 10, flags: ack}, {port: 1, ack: 12, flags: ack}, turn, late}, []uint32{0, 12, 0}},
		{"the same one again does not", []step{{port: 1, ack: 10, flags: ack}, {port: 1, ack: 10, flags: ack}, turn, late}, []uint32{0, 10, 10, 0}},
		{"another connection does not", []step{{port: 1, ack: 10, flags: ack}, {port: 2, ack: 12, flags: ack, payload: 1}, turn, late}, []uint32{12, 0, 10, 0}},
		{"no acknowledgment", []step{{port: 1, flags: header.TCPFlagRst, ack: 5}, turn}, []uint32{5, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h ackHolder
			var got []uint32
			write := func(pkt *stack.PacketBuffer) {
				got = append(got, header.TCP(pkt.TransportHeader().Slice()).AckNumber())
			}
			now := time.Second
			h.hold(now)
			for _, s := range tt.steps {
				now += s.after
				switch {
				case s.park:
					h.release(write)
					got = append(got, 0)
				case s.port == 0:
					h.endTurn(now, write)
					got = append(got, 0)
				default:
					h.passed(s.came)
					pkt := tcpPacket(t, s.port, s.ack, s.flags, s.payload)
					if !h.take(pkt) {
						write(pkt)
					}
					pkt.DecRef()
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
			h.release(func(*stack.PacketBuffer) {})
			if len(h.held) != 0 {
				t.Errorf("%d still held", len(h.held))
			}
		})
	}
}

func TestAckHolderIsBounded(t *testing.T) {
	var h ackHolder
	h.hold(0)
	for i := range uint32(maxHeldAcks + 1) {
		pkt := tcpPacket(t, uint16(i), 1, header.TCPFlagAck, 0)
		if held := h.take(pkt); held != (i < maxHeldAcks) {
			t.Fatalf("acknowledgment %d: held %v", i, held)
		}
		pkt.DecRef()
	}
	h.release(func(*stack.PacketBuffer) {})
}
