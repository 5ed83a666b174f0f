// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/netstack/attach"
)

// describe fills in what the container's files say of its network.
func describe(cfg *launcher.Config, session attach.Config) {
	for _, f := range session.Tap.Plan.Families() {
		cfg.ContainerAddrs = append(cfg.ContainerAddrs, f.Container)
		cfg.Gateways = append(cfg.Gateways, f.Gateway)
		if !session.NoDNS {
			cfg.DNS = append(cfg.DNS, f.DNS)
		}
	}
	if !session.NoDNS {
		cfg.Search = attach.Search(session)
	}
}

// A confiner confines the process once the container sends, and returns false if ctx is
// done before.
type confiner func(ctx context.Context, s *attach.Session, log *slog.Logger) (goOn bool, err error)

// A containerNetwork is a session as the launcher knows it, with its capture and
// its API.
type containerNetwork struct {
	*attach.Session
	api         *attach.API
	confine     confiner
	log         *slog.Logger
	stopCapture func()
	done        func() // when the API has ended
}

// apiFile is the name of the API's socket in the container's directory.
const apiFile = "api"

func newContainerNetwork(cfg attach.Config, net *netFlags, dir string, confine confiner, log *slog.Logger) (launcher.Network, error) {
	s, err := attach.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := s.Device().Mute(); err != nil {
		s.Close()
		return nil, err
	}
	n := &containerNetwork{Session: s, confine: confine, log: log}
	if n.stopCapture, err = net.capture(s); err != nil {
		s.Close()
		return nil, err
	}
	var path string
	if path, n.done, err = socketPath(filepath.Join(dir, apiFile)); err == nil {
		if n.api, err = attach.Listen(path, s); err != nil {
			n.done()
		}
	}
	if err != nil {
		n.stopCapture()
		s.Close()
		return nil, err
	}
	log.Info("network is up", "interface", s.Device().Name(), "mtu", s.Device().MTU(),
		"offload", s.Device().Offload().String())
	return n, nil
}

// Run carries traffic once the process is confined.
func (n *containerNetwork) Run(ctx context.Context) error {
	if goOn, err := n.confine(ctx, n.Session, n.log); !goOn || err != nil {
		return err
	}
	return n.Session.Run(ctx)
}

// Close ends the capture and the API, too.
func (n *containerNetwork) Close() error {
	n.stopCapture()
	err := n.api.Close()
	n.done()
	return errors.Join(err, n.Session.Close())
}
