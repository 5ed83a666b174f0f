// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/netstack/dns"
)

// Confine takes from the process what its session does not need any more, and logs
// what is in force (package sandbox). It is for programs whose only purpose is a
// session. To the Policy, which says what else the program needs, and which parts are
// to be in force, it adds what the session needs. It comes after New, and after
// whatever has to be opened; before Run, and before the caller is told that the
// network is up. After an error the program should end.
func (s *Session) Confine(p sandbox.Policy) (sandbox.State, error) {
	s.openLate() // which takes more than is left then
	p.Keep |= s.Capabilities()
	if s.dns != nil && len(s.cfg.DNS) == 0 {
		p.Read = append(p.Read, dns.DefaultResolvConf)
	}
	for _, h := range s.cfg.HostSockets {
		p.Connect = append(p.Connect, h.Path)
	}
	if path := s.device.Watched(); path != "" {
		p.Look = append(p.Look, path)
	}
	state, err := sandbox.Enter(p)
	if err != nil {
		return state, err
	}
	// By /proc a process could look behind the empty root, but not under Landlock.
	if state.Root == nil && state.Landlock != nil {
		s.device.ForgetProc()
	}
	state.Log(s.log)
	return state, nil
}

// Capabilities returns those that the session needs from now on, which Confine keeps.
// The spliced path changes rules in the container's network namespace, for which the
// owner of that needs nothing, and others CAP_NET_ADMIN.
func (s *Session) Capabilities() sandbox.Capabilities {
	if s.hairpin.Load() == nil || s.device.Granted() {
		return 0
	}
	return sandbox.NetAdmin
}
