// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"net/netip"

	"github.com/slipway-net/slipway/tap"
)

// A service is what the container has at one port: all sockets there, taken
// together.
type service struct {
	// four and six tell whether it is to be reached at the plan's addresses.
	four, six bool
	// other is another address in the plan's networks, at which it alone is.
	other netip.Addr
	// loopback tells whether it is to be reached at 127.0.0.1 or ::1.
	loopback bool
}

// add takes a socket into account. One at an address that leads nowhere from
// outside, such as a bridge's of the container, adds nothing.
func (s *service) add(l Listening, plan tap.Plan) {
	a := l.Local.Addr()
	switch {
	case a.IsUnspecified():
		s.four = s.four || a.Is4() || l.Both
		s.six = s.six || a.Is6()
	case a.IsLoopback():
		s.loopback = s.loopback || a == loopback4() || a == netip.IPv6Loopback()
	case a == plan.V4.Container:
		s.four = true
	case a == plan.V6.Container:
		s.six = true
	case plan.Of(a).Enabled() && plan.Of(a).Prefix.Contains(a) && !plan.Of(a).Ours(a):
		if !s.other.IsValid() || a.Less(s.other) {
			s.other = a
		}
	}
}

// rule returns how the service is published, and whether it is. A service of one
// family serves clients of both, of which the stack makes the gateway.
func (s service) rule(k portKey, a Auto, plan tap.Plan) (Rule, bool) {
	r := Rule{Proto: k.proto, Host: a.Host, Interface: a.Interface, HostPort: k.port, ContainerPort: k.port, Count: 1}
	four, six := s.four && plan.V4.Enabled(), s.six && plan.V6.Enabled()
	switch {
	case four && six:
	case four:
		if plan.V6.Enabled() {
			r.Container = plan.V4.Container
		}
	case six:
		if plan.V4.Enabled() {
			r.Container = plan.V6.Container
		}
	case s.other.IsValid():
		r.Container = s.other
	default:
		r.Loopback = true
		return r, s.loopback && a.Loopback
	}
	return r, true
}

func loopback4() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }
