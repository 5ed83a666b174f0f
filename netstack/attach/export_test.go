// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"

	"github.com/slipway-net/slipway/netstack"
)

// Inbound publishes sockets of the test's own.
func (s *Session) Inbound(in []netstack.Inbound) { s.network.Publish(in) }

// Withdraw ends that.
func (s *Session) Withdraw(ctx context.Context, ids []int, cut bool) {
	s.network.Withdraw(ctx, ids, cut)
}

// Network returns what is behind the session's tap, for tests of it alone.
func (s *Session) Network() *netstack.Network { return s.network }
