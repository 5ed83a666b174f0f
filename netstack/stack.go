// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"errors"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	// nicID is the only interface of the stack.
	nicID = 1
	// maxBuffer is what gVisor buffers of one direction of a connection (bytes), as
	// long as there are few connections.
	maxBuffer = 4 << 20
	// minBuffer is the same where there are many. The link's round trip is so short
	// that it still carries gigabits.
	minBuffer = 16 << 10
	// bufferBudget is what the buffers of one direction share (bytes). A container
	// that fills all it can get of DefaultMaxFlows connections, opened one after
	// the other, makes us hold about ten times that.
	bufferBudget = 64 << 20
	// handshakes is how many SYNs gVisor may have under way. Only SYNs whose host
	// connection exists get there, and the flow table bounds those: this must
	// merely not be the smaller bound, since gVisor drops what is above it.
	handshakes = 1 << 20
	// timeWait is zero since a tuple in TIME_WAIT would swallow the next SYN from
	// a reused port; what TIME_WAIT guards against, a delayed segment of the old
	// connection, cannot happen on a link of one hop.
	timeWait = 0
	// keepaliveIdle, -Interval and -Count find peers that vanished: about five
	// minutes after the last sign of life.
	keepaliveIdle     = 120 * time.Second
	keepaliveInterval = 30 * time.Second
	keepaliveCount    = 6
)

// newStack makes a gVisor stack that terminates TCP for any address behind l, and
// does nothing else: all other protocols are handled on the link.
func newStack(l *link, forwarded func(*tcp.ForwarderRequest)) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{
				NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
			}),
		},
		// Reno, which is the protocol's default: on a link that loses nothing its
		// slow start never ends. CUBIC's HyStart takes the jitter of a round trip of
		// microseconds for a full queue, and then grows a window of a few segments
		// by the clock: 10.7 instead of 16.8 Gbit/s into the container at MTU 1500.
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		// Packets from the stack's own addresses must be accepted: with spoofing
		// on, every address is one.
		HandleLocal: false,
	})
	if err := setOptions(s); err != nil {
		return nil, err
	}
	// The handler stands before the NIC: no frame can come between.
	f := tcp.NewForwarder(s, maxBuffer, handshakes, forwarded)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
	if err := s.CreateNICWithOptions(nicID, l, stack.NICOptions{Name: "tap", QDisc: l}); err != nil {
		return nil, errors.New(err.String())
	}
	// Promiscuous: packets to any address are ours. Spoofing: answers come from
	// any address.
	if err := s.SetPromiscuousMode(nicID, true); err != nil {
		return nil, errors.New(err.String())
	}
	if err := s.SetSpoofing(nicID, true); err != nil {
		return nil, errors.New(err.String())
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	return s, nil
}

func setOptions(s *stack.Stack) error {
	// The link's round trip is microseconds and its bandwidth the memory's:
	// windows that grow by measuring would only ever lag behind.
	moderate := tcpip.TCPModerateReceiveBufferOption(false)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	opts := []tcpip.SettableTransportProtocolOption{
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: maxBuffer, Max: maxBuffer},
		&tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: maxBuffer, Max: maxBuffer},
		&moderate,
		&wait,
	}
	for _, o := range opts {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return errors.New(err.String())
		}
	}
	return nil
}

// bufferSize is the buffer of one direction of a connection that is one of flows.
func bufferSize(flows int) int64 {
	return int64(max(minBuffer, min(bufferBudget/max(1, flows), maxBuffer)))
}
