// SPDX-License-Identifier: Apache-2.0

package attach

import "github.com/slipway-net/slipway/netstack"

// Network returns what is behind the session's tap, for tests of it alone.
func (s *Session) Network() *netstack.Network { return s.network }
