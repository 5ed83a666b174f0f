// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// The ways a flow can take between the tap and the host.
const (
	// PathStacked: gVisor terminates the container's TCP connection, and its
	// bytes are copied to a socket of the host.
	PathStacked = "stacked"
	// PathSpliced: the container's own kernel terminates its TCP connection, and
	// its bytes are moved to a socket of the host by the kernel too.
	PathSpliced = "spliced"
	// PathLink: datagrams go from the link to a socket of the host and back,
	// past the TCP/IP stack.
	PathLink = "link"
	// PathLoopback: datagrams go from a socket of the host to one in the container,
	// whose service listens at its loopback, and back.
	PathLoopback = "loopback"
)

// The directions of a flow.
const (
	DirectionOut = "out"
	DirectionIn  = "in"
)

// FlowInfo is what is known of one flow at one moment.
type FlowInfo struct {
	ID    uint64 `json:"id"`    // unique within the Network, from 1
	Proto string `json:"proto"` // "tcp", "udp" or "icmp"
	Path  string `json:"path"`
	State string `json:"state"`
	// Direction is DirectionOut where the container began, DirectionIn where a
	// client of a published port did.
	Direction string `json:"direction"`
	// Container is the container's end; for ICMP the port is the echo identifier.
	Container netip.AddrPort `json:"container"`
	// Remote is where the container sent to; of a UDP or ICMP flow, which may
	// have many destinations, the last.
	Remote netip.AddrPort `json:"remote"`
	// Host is what was dialed for that: different from Remote where the host's
	// loopback is mapped. Of an inbound flow it is the published address that the
	// client used.
	Host netip.AddrPort `json:"host"`
	// HostSocket is the path of the Unix socket that was dialed instead of Host,
	// which then is the zero AddrPort; empty for none.
	HostSocket string `json:"host_socket,omitempty"`
	// BytesUp went from the container to the host, BytesDown the other way:
	// payload only.
	BytesUp   uint64        `json:"bytes_up"`
	BytesDown uint64        `json:"bytes_down"`
	Age       time.Duration `json:"age_ns"`
	Idle      time.Duration `json:"idle_ns"`
	// RTT is the smoothed round-trip time of the host's side, as TCP_INFO has it;
	// 0 where there is none.
	RTT time.Duration `json:"rtt_ns"`
}

// flow is the part that flows of all kinds share. It is owned by the loop.
type flow struct {
	id        uint64
	container netip.AddrPort
	remote    netip.AddrPort
	host      netip.AddrPort
	created   time.Duration // by the loop's clock
	last      time.Duration // when bytes last passed
	up, down  uint64        // bytes of payload
	inbound   bool
}

func (f *flow) lastUsed() time.Duration { return f.last }

func (n *Network) newFlow(container, remote, host netip.AddrPort) flow {
	n.flowIDs++
	return flow{
		id: n.flowIDs, container: container, remote: remote, host: host,
		created: n.now, last: n.now,
	}
}

func (f *flow) info(now time.Duration, proto, path, state string) FlowInfo {
	direction := DirectionOut
	if f.inbound {
		direction = DirectionIn
	}
	return FlowInfo{
		ID: f.id, Proto: proto, Path: path, State: state, Direction: direction,
		Container: f.container, Remote: f.remote, Host: f.host,
		BytesUp: f.up, BytesDown: f.down,
		Age: max(0, now-f.created), Idle: max(0, now-f.last),
	}
}

// Flows returns all flows, oldest first. Any goroutine may call it while Run
// runs; it returns nil when ctx is done first.
func (n *Network) Flows(ctx context.Context) []FlowInfo {
	got := make(chan []FlowInfo, 1)
	n.loop.Post(func() {
		var fs []FlowInfo
		fs = n.tcp.infos(fs)
		fs = n.udp.infos(fs)
		fs = n.ping.infos(fs)
		fs = n.inbound.udp.infos(fs)
		got <- fs
	})
	select {
	case fs := <-got:
		slices.SortFunc(fs, func(a, b FlowInfo) int { return int(a.ID) - int(b.ID) })
		return fs
	case <-ctx.Done():
		return nil
	}
}

// logFlow writes the one line that a flow leaves behind. What there is to say of
// it is asked only if somebody listens.
func (n *Network) logFlow(msg string, info func() FlowInfo, attrs ...slog.Attr) {
	if !n.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	i := info()
	attrs = append([]slog.Attr{
		slog.Uint64("flow", i.ID),
		slog.String("proto", i.Proto),
		slog.String("path", i.Path),
		slog.String("container", i.Container.String()),
		slog.String("remote", i.Remote.String()),
		slog.Uint64("up", i.BytesUp),
		slog.Uint64("down", i.BytesDown),
		slog.Duration("age", i.Age.Round(time.Microsecond)),
	}, attrs...)
	if i.HostSocket != "" {
		attrs = append(attrs, slog.String("socket", i.HostSocket))
	}
	n.log.LogAttrs(context.Background(), slog.LevelDebug, msg, attrs...)
}
