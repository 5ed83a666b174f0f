// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"cmp"
	"errors"

	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
)

// inside returns what is to be made in the container besides the tap: first what
// package splice asks for, where the tap is pinned, then the socket to follow ports by.
func (c Config) inside() tap.Inside {
	var in tap.Inside
	if c.Tap.Pin {
		in = splice.Inside(cmp.Or(c.Tap.Name, tap.DefaultName))
		if c.NoSplice {
			in.Settings = nil
		}
	}
	if c.Auto != nil {
		in.Sockets = append(in.Sockets, portfwd.DiagSocket())
	}
	return in
}

// opened returns what came of it for package splice, and for following ports.
func (s *Session) opened() (forSplice tap.Opened, diag tap.File) {
	forSplice = s.device.Inside()
	switch {
	case s.cfg.Auto == nil:
	case s.cfg.Device != nil:
		diag = tap.File{FD: -1, Err: errors.New("the tap was made by somebody else")}
	default:
		last := len(forSplice.Sockets) - 1
		diag, forSplice.Sockets = forSplice.Sockets[last], forSplice.Sockets[:last]
	}
	return forSplice, diag
}

// openHairpin sets the spliced path up, or says why there is none, both ways.
func (s *Session) openHairpin() {
	if !s.cfg.Tap.Pin {
		return
	}
	in, _ := s.opened()
	var err error
	if s.factory, err = splice.NewFactory(in); err != nil {
		s.log.Info("inbound TCP is stacked", "why", err)
	}
	if s.cfg.NoSplice {
		return
	}
	if s.hairpin, err = splice.New(s.device.Name(), in); err != nil {
		s.log.Info("TCP is stacked", "why", err)
	}
}
