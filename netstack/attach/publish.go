// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"fmt"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
)

// Ports returns the session's published ports, which any goroutine may change. What
// is published stays so until it is withdrawn or the session is closed.
func (s *Session) Ports() *portfwd.Table { return s.ports }

// publish makes the table of ports, and publishes those that were asked for.
func (s *Session) publish() error {
	s.carries, s.ended = context.WithCancel(context.Background())
	s.ports = portfwd.New(portfwd.Config{
		Stack: stackOf{s.network, s.carries}, Plan: s.cfg.Tap.Plan, Loopback: s.reachLoopback, Log: s.log,
	})
	ports, err := s.ports.Add(s.carries, s.cfg.Publish)
	if err != nil {
		return err
	}
	for _, p := range ports {
		s.log.Info("port is published", "id", p.ID, "rule", p.String())
	}
	if s.cfg.Auto == nil {
		return nil
	}
	return s.followPorts()
}

// followPorts prepares to publish what listens in the container.
func (s *Session) followPorts() error {
	in := s.opened()
	if in.diag.Err != nil {
		return fmt.Errorf("follow the container's ports: %w", in.diag.Err)
	}
	source, err := portfwd.NewDiag(in.diag.FD)
	if err != nil {
		return fmt.Errorf("follow the container's ports: %w", err)
	}
	cfg := portfwd.FollowerConfig{Auto: *s.cfg.Auto, Table: s.ports, Source: others{source, in.splice}, Log: s.log}
	if first, last, err := splice.LocalPorts(in.splice); err == nil {
		cfg.Ephemeral = portfwd.PortRange{First: first, Last: last}
	}
	s.follower, err = portfwd.NewFollower(cfg)
	return err
}

// others is what listens in the container, but for what the session has there itself.
type others struct {
	portfwd.Source
	opened tap.Opened
}

// Listening implements portfwd.Source.
func (o others) Listening(each func(portfwd.Listening)) error {
	return o.Source.Listening(func(l portfwd.Listening) {
		if l.Proto != portfwd.TCP || !l.Local.Addr().IsLoopback() || !splice.Ours(o.opened, l.Local) {
			each(l)
		}
	})
}

// follow publishes what listens in the container until ctx is done.
func (s *Session) follow(ctx context.Context) {
	if s.follower == nil {
		return
	}
	if err := s.follower.Run(ctx); err != nil {
		s.log.Warn("the container's ports are not followed any more", "err", err)
	}
}

// stackOf is the Network as package portfwd knows it.
type stackOf struct {
	network *netstack.Network
	carries context.Context
}

var _ portfwd.Stack = stackOf{}

// Publish implements portfwd.Stack.
func (s stackOf) Publish(ls []portfwd.Listener) {
	in := make([]netstack.Inbound, 0, len(ls))
	for _, l := range ls {
		in = append(in, netstack.Inbound{
			ID: l.ID, UDP: l.Proto == portfwd.UDP, FD: l.FD,
			Host: l.Host, Container: l.Container, Loopback: l.Loopback,
		})
	}
	s.network.Publish(in)
}

// Withdraw implements portfwd.Stack. A Network that has run closes by itself what it
// has, and nobody need wait for it.
func (s stackOf) Withdraw(ctx context.Context, ids []int, cut bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(s.carries, cancel)
	defer stop()
	s.network.Withdraw(ctx, ids, cut)
}
