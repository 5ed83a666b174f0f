// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"cmp"
	"errors"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
)

// inside returns what is to be made in the container besides the tap: first what
// package splice asks for, and the socket for services at loopback, where the tap is
// pinned, then the socket to follow ports by, and those of HostPorts.
func (c Config) inside() tap.Inside {
	var in tap.Inside
	if c.Tap.Pin {
		in = splice.Inside(cmp.Or(c.Tap.Name, tap.DefaultName))
		if c.NoSplice {
			in.Settings = nil
		}
		in.Sockets = append(in.Sockets, netstack.LoopbackSockets()...)
	}
	if c.Auto != nil {
		in.Sockets = append(in.Sockets, portfwd.DiagSocket())
	}
	in.Sockets = append(in.Sockets, hostPortSockets(c.HostPorts)...)
	return in
}

// opened is what came of it, by whom it is for.
type opened struct {
	splice   tap.Opened
	loopback []tap.File // as netstack.LoopbackSockets asks for
	diag     tap.File
	ports    []tap.File // as hostPortSockets asks for
}

func (s *Session) opened() opened {
	if s.cfg.Device != nil {
		none := tap.File{FD: -1, Err: errors.New("the tap was made by somebody else")}
		return opened{loopback: []tap.File{none, none}, diag: none}
	}
	o := opened{splice: s.device.Inside()}
	last := func(n int) (fs []tap.File) {
		all := o.splice.Sockets
		fs, o.splice.Sockets = all[len(all)-n:], all[:len(all)-n]
		return fs
	}
	o.ports = last(len(hostPortSockets(s.cfg.HostPorts)))
	if s.cfg.Auto != nil {
		o.diag = last(1)[0]
	}
	if s.cfg.Tap.Pin {
		o.loopback = last(len(netstack.LoopbackSockets()))
	}
	return o
}

// openInside gets ready what New has opened in the container: what reaches services at
// its loopback, and the spliced path both ways, unless that comes late.
func (s *Session) openInside() {
	if !s.cfg.Tap.Pin {
		return
	}
	in := s.opened()
	if s.loopback, s.noLoopback.udp = netstack.NewLoopback(in.loopback); s.noLoopback.udp != nil {
		s.log.Info("UDP services at the container's loopback are out of reach", "why", s.noLoopback.udp)
	}
	if s.factory, s.noLoopback.tcp = splice.NewFactory(in.splice); s.noLoopback.tcp != nil {
		s.log.Info("inbound TCP is stacked", "why", s.noLoopback.tcp)
	}
	if !s.cfg.LateSplice {
		s.openHairpin()
	}
}

// openLate sets the spliced path up where that comes late.
func (s *Session) openLate() {
	if !s.cfg.LateSplice {
		return
	}
	s.late.Do(func() {
		s.openHairpin()
		s.network.UseHairpin(s.hairpin.Load())
	})
}

// openHairpin sets the spliced path up, or says why there is none.
func (s *Session) openHairpin() {
	if !s.cfg.Tap.Pin || s.cfg.NoSplice {
		return
	}
	life := splice.UntilClose
	if s.cfg.OwnNamespace {
		life = splice.UntilNamespace
	}
	h, err := splice.New(s.device.Name(), s.opened().splice, life)
	if err != nil {
		s.log.Info("TCP is stacked", "why", err)
		return
	}
	s.hairpin.Store(h)
}

// reachLoopback gets ready for services of that protocol at the container's loopback, or
// says why they are out of reach.
func (s *Session) reachLoopback(p portfwd.Proto) error {
	switch {
	case !s.cfg.Tap.Pin:
		return errors.New("no sockets were made in the container")
	case p == portfwd.TCP:
		return s.noLoopback.tcp
	case s.loopback == nil:
		return s.noLoopback.udp
	}
	return s.loopback.Open()
}
