// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// publishedPorts is how many TCP ports a case with many connections publishes: few,
// since users do, but enough that a client finds free local ports to each.
const publishedPorts = 4

// sourceMetric says whether the container's server saw the client's own address.
const sourceMetric = "client address kept:"

// A publishCase runs another case the other way round: a client outside connects to
// a port that the host publishes, and the container serves.
type publishCase struct {
	loopback bool        // the client is on the host and uses its loopback; else at the peer
	inner    networkCase // in which the client is "the container"
	name     string
	proto    string
	ports    int
	source   bool // also tell whether the server saw the client's own address
}

// An inbound is what a case with published ports has besides the bout's own.
type inbound struct {
	client *remote
	addr   netip.Addr // that the client connects to
}

// publishCases returns the cases with published ports.
func publishCases() []Case {
	var all []Case
	for _, loopback := range []bool{false, true} {
		for _, up := range []bool{true, false} {
			// What goes up leaves the container: the client, who opens, receives it.
			all = append(all, publishCase{
				loopback: loopback, inner: throughputCase{streams: 1, up: !up}, name: "tcp/" + direction(up),
				proto: "tcp", ports: 1, source: !loopback && !up,
			})
		}
		for _, n := range []int{1, 16} {
			all = append(all, publishCase{
				loopback: loopback, inner: connectCase{atOnce: n, ports: publishedPorts}, name: fmt.Sprintf("connect/%d", n),
				proto: "tcp", ports: publishedPorts,
			})
		}
		const size = 1400 // bytes: what fits the veth's MTU
		all = append(all, publishCase{
			loopback: loopback, inner: udpCase{size: size, up: true}, name: fmt.Sprintf("udp/%d", size),
			proto: "udp", ports: 1, source: !loopback,
		})
	}
	return all
}

// Name implements Case.
func (c publishCase) Name() string {
	if c.loopback {
		return "publish/loopback/" + c.name
	}
	return "publish/remote/" + c.name
}

// Wide implements Case.
func (publishCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (publishCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (c publishCase) Metrics() []Metric {
	if !c.source {
		return c.inner.Metrics()
	}
	return append(c.inner.Metrics(), Metric{Name: sourceMetric, Unit: unitYesNo, Higher: true})
}

// price implements priced.
func (c publishCase) price(p Plan) time.Duration { return p.price(c.inner) }

// publications implements publisher.
func (c publishCase) publications(family int) []publication {
	addr, first := netip.IPv4Unspecified(), tcpPortFirst
	if family == 6 {
		addr = netip.IPv6Unspecified()
	}
	if c.proto == "udp" {
		// The TCP port is for the client to see that the way is open.
		return []publication{{"udp", addr, udpPortPeer}, {"tcp", addr, tcpPortFirst}}
	}
	var all []publication
	for i := range c.ports {
		all = append(all, publication{"tcp", addr, first + i})
	}
	return all
}

func (c publishCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	if err := b.container.call(ctx, 0, "serve", nil, nil); err != nil {
		return nil, nil, err
	}
	if err := b.comeFromOutside(ctx, c.loopback); err != nil {
		return nil, nil, err
	}
	in := b.inbound
	var cc string
	if err := in.client.call(ctx, reachTime, "reach", reachArgs{Addr: in.addr, Limit: reachTime}, &cc); err != nil {
		return nil, nil, fmt.Errorf("published port: %w", err)
	}
	turned := *b
	turned.container, turned.peer, turned.addr = in.client, b.container, in.addr
	values, detail, err := c.inner.run(ctx, &turned)
	if err != nil || !c.source {
		return values, detail, err
	}
	seen, kept, err := c.clientSeen(ctx, b)
	if err != nil {
		return values, detail, partialError{sourceMetric, err}
	}
	values[sourceMetric] = 0
	if kept {
		values[sourceMetric] = 1
	}
	return values, map[string]any{"measured": detail, "client_seen_as": seen}, nil
}

// clientSeen returns whom the container's server took the last client for, and
// whether that is the client.
func (c publishCase) clientSeen(ctx context.Context, b *bout) (string, bool, error) {
	in := b.inbound
	if c.proto == "tcp" {
		if err := in.client.call(ctx, dialTimeout, "hold", holdArgs{Addr: in.addr, N: 1}, nil); err != nil {
			return "", false, err
		}
	}
	var m met
	if err := b.container.call(ctx, 0, "met", nil, &m); err != nil {
		return "", false, err
	}
	seen := m.TCP
	if c.proto == "udp" {
		seen = m.UDP
	}
	return seen.String(), seen.Addr() == peerAddr(b.step.Family), nil
}

// comeFromOutside finds or starts the client.
func (b *bout) comeFromOutside(ctx context.Context, loopback bool) error {
	family6 := b.step.Family == 6
	if !loopback {
		addr := netip.MustParseAddr(hostAddr4)
		if family6 {
			addr = netip.MustParseAddr(hostAddr6)
		}
		b.inbound = &inbound{client: b.peer, addr: addr}
		return nil
	}
	client, err := startRemote(b.topo.host.on(b.plan.Pin[kindPeer]), "client", false)
	if err != nil {
		return err
	}
	b.inbound = &inbound{client: client, addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if family6 {
		b.inbound.addr = netip.IPv6Loopback()
	}
	return nil
}
