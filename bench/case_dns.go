// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
)

// A dnsCase asks the resolver that the helper offers, a number of queries at once.
// The helper asks the peer's, which it knows from the host's resolv.conf. On the
// direct path the peer's resolver is asked itself.
type dnsCase struct {
	atOnce int
}

// Name implements Case.
func (c dnsCase) Name() string { return fmt.Sprintf("dns/%d", c.atOnce) }

// Wide implements Case.
func (dnsCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (dnsCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (dnsCase) Metrics() []Metric {
	return []Metric{
		{Name: "rate", Unit: "queries/s", Higher: true, Bounded: true},
		{Name: "p50", Unit: "ms", Detail: true},
		{Name: "p99", Unit: "ms"},
		{Name: "failed", Unit: "queries without an answer", Detail: true},
	}
}

func (c dnsCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	if b.topo.resolvErr != nil {
		return nil, nil, b.topo.resolvErr
	}
	resolver, err := b.resolver(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := b.peer.call(ctx, 0, "udp.serve", nil, nil); err != nil {
		return nil, nil, err
	}
	before, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	var r loopResult
	args := dnsArgs{Resolver: resolver, Loop: loop{AtOnce: c.atOnce, Warmup: b.plan.Warmup, Window: b.plan.Window}}
	if err := b.container.call(ctx, b.plan.Warmup+b.plan.Window+soakAnswer, "dns", args, &r); err != nil {
		return nil, nil, err
	}
	after, err := b.helperCPU()
	if err != nil {
		return nil, nil, err
	}
	switch {
	case r.Done == 0 && r.Failed == 0:
		return nil, r, fmt.Errorf("no query to %s was answered within the window", resolver)
	case r.Done == 0:
		return nil, r, fmt.Errorf("no query to %s was answered; %d failed, the first with: %s", resolver, r.Failed, r.FirstError)
	}
	const milli = 1e6
	v := map[string]float64{
		"rate": float64(r.Done) / r.Elapsed.Seconds(), "p50": float64(r.P50) / milli, "p99": float64(r.P99) / milli,
		"failed": float64(r.Failed),
	}
	if b.helper != nil {
		v[helperCPUKey] = after - before
	}
	return v, r, nil
}

// Where the container reaches a resolver, unless flags say otherwise.
const (
	slirpDNS = "10.0.2.3"    // slirp4netns(1), and slipway's address plan
	pastaDNS = "169.254.1.1" // as Podman tells it (containers/common, libnetwork/pasta)
)

// resolver is the address of the resolver that the subject offers to its container.
// A helper that makes the container writes it into the container's resolv.conf; of
// the others, whoever starts them does.
func (b *bout) resolver(ctx context.Context) (netip.Addr, error) {
	if b.helper != nil && b.helper.endpoint != nil {
		var a netip.Addr
		err := b.container.call(ctx, 0, "resolver", nil, &a)
		return a, err
	}
	tool := b.step.Subject.Tool
	known := map[string]string{directName: peerAddr4, "slirp4netns": slirpDNS, "slipway": slirpDNS, "pasta": pastaDNS}
	if a, ok := known[tool]; ok {
		return netip.MustParseAddr(a), nil
	}
	return netip.Addr{}, fmt.Errorf("it is not known where %s offers a resolver", tool)
}
