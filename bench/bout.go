// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// helperCPUKey is the value under which a case reports the CPU seconds that the
// helper used while it measured: the proof that the helper carried the bytes.
const helperCPUKey = "helper_cpu_s"

// reachTime bounds the wait for the first answer through a helper that said it is
// ready; IPv6 duplicate address detection in the container takes a second or two.
const reachTime = 6 * time.Second

// A bout is one step with everything that it needs running: the container with its
// endpoint, the helper, and the peer's endpoint.
type bout struct {
	topo      *topology
	plan      Plan
	step      step
	addr      netip.Addr // of the peer
	container *remote
	peer      *remote // or the server at the host's loopback
	helper    *helper // nil for the direct path
	publish   []publication
	inbound   *inbound // set where the case's flows come from outside
	carrier   *Proof   // set where the case itself has seen who carried its flows
}

// A publisher is a case that needs ports to be published.
type publisher interface {
	publications(family int) []publication
}

// A launcher is a case in which something else starts the container and its helper, and
// the endpoint is on the host. A subject that it cannot be given is not one of its case's.
type launcher interface {
	launches(s Subject) bool
}

// launches reports whether the case is a launcher.
func launches(c Case) bool {
	_, ok := c.(launcher)
	return ok
}

// A partialError says that the named metric, and what comes after it, is missing.
type partialError struct {
	metric string
	err    error
}

// Error implements error.
func (e partialError) Error() string { return fmt.Sprintf("%s: %v", e.metric, e.err) }

// Unwrap returns the cause.
func (e partialError) Unwrap() error { return e.err }

// A helperError says that the helper did not start or did not live to the end.
type helperError struct {
	err error
}

// Error implements error.
func (e helperError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e helperError) Unwrap() error { return e.err }

// openBout starts what the step needs and waits until the peer answers through it.
// Close ends it all.
func openBout(ctx context.Context, topo *topology, plan Plan, s step) (*bout, error) {
	b := &bout{topo: topo, plan: plan, step: s, addr: peerAddr(s.Family)}
	where, name, serve := topo.peer, "peer", "serve"
	if p, ok := s.Case.(publisher); ok {
		b.publish = p.publications(s.Family)
	}
	var err error
	if toLoopback(s.Case) {
		where, name, serve = topo.host, "server at the host's loopback", "serve.loopback"
		if b.addr, err = loopbackAddr(s.Subject.Tool, s.Family); err != nil {
			return nil, err
		}
	}
	if b.peer, err = startRemote(where.on(plan.Pin[kindPeer]), name, false); err != nil {
		return nil, err
	}
	if err := b.peer.call(ctx, 0, serve, nil, nil); err != nil {
		b.close()
		return nil, err
	}
	if err := b.restart(ctx); err != nil {
		b.close()
		return nil, err
	}
	if err := b.reach(ctx); err != nil {
		err = errors.Join(b.helperDied(), err)
		if b.helper != nil {
			err = helperError{err}
		}
		b.close()
		return nil, err
	}
	return b, nil
}

// reach waits until the peer answers and checks that both ends use the congestion
// control that the step asks for.
func (b *bout) reach(ctx context.Context) error {
	var (
		ours, theirs string
		reach        = reachArgs{Addr: b.addr, Limit: reachTime}
		want         = congestionArgs{Name: b.step.Congestion}
	)
	if b.helper != nil {
		// The container has routes only now: some come with the first router
		// advertisement, after the helper said that it is ready.
		if err := b.container.call(ctx, reachTime, "reach", reach, nil); err != nil {
			return err
		}
		if err := b.container.call(ctx, 0, "congestion", want, nil); err != nil {
			return err
		}
	}
	if err := b.container.call(ctx, reachTime, "reach", reach, &ours); err != nil {
		return err
	}
	if err := b.peer.call(ctx, 0, "served", nil, &theirs); err != nil {
		return err
	}
	if ours != want.Name || theirs != want.Name {
		return fmt.Errorf("congestion control is %q in the container and %q at the peer: want %q", ours, theirs, want.Name)
	}
	return nil
}

// restart replaces the container and the helper by new ones. Most helpers join a
// container that is there; some make it and run the endpoint in it.
func (b *bout) restart(ctx context.Context) error {
	b.closeContainer()
	s := b.step.Subject
	j := job{
		MTU: b.step.MTU, Program: b.plan.Program, Publish: b.publish,
		StartLimit: b.plan.StartLimit, HostLoopback: toLoopback(b.step.Case),
	}
	where := b.topo.host.on(b.plan.Pin[kindHelper])
	var err error
	if tools()[s.Tool].ready == readyByAnswer {
		if b.helper, err = startHelper(ctx, where, s, j); err != nil {
			return helperError{err}
		}
		b.container = b.helper.endpoint
		return nil
	}
	contained := s.Tool != directName && !launches(b.step.Case)
	c, err := startRemote(b.topo.host.on(b.plan.Pin[kindContainer]), "container", contained)
	if err != nil {
		return err
	}
	b.container, j.PID = c, c.pid
	if !contained {
		return nil
	}
	if err := c.call(ctx, 0, "lo", nil, nil); err != nil {
		return err
	}
	if b.helper, err = startHelper(ctx, where, s, j); err != nil {
		return helperError{err}
	}
	return nil
}

// helperCPU returns the CPU seconds that the helper has used, 0 where there is none.
func (b *bout) helperCPU() (float64, error) {
	if b.helper == nil {
		return 0, nil
	}
	return b.helper.cpu()
}

// helperDied returns an error if there was a helper and it no longer runs.
func (b *bout) helperDied() error {
	if b.helper == nil {
		return nil
	}
	if err := b.helper.died(); err != nil {
		return helperError{err}
	}
	return nil
}

// close ends everything that the bout started.
func (b *bout) close() {
	b.closeContainer()
	if b.inbound != nil && b.inbound.client != b.peer {
		b.inbound.client.close()
	}
	b.inbound = nil
	if b.peer != nil {
		b.peer.close()
		b.peer = nil
	}
}

func (b *bout) closeContainer() {
	if b.helper != nil {
		b.helper.close()
		if b.container == b.helper.endpoint {
			b.container = nil
		}
		b.helper = nil
	}
	if b.container != nil {
		b.container.close()
		b.container = nil
	}
}
