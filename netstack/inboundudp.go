// SPDX-License-Identifier: Apache-2.0

package netstack

import "github.com/slipway-net/slipway/netstack/loop"

// receiveUDP passes on what has come in at a published UDP port.
func (l *listener) receiveUDP(loop.Events) {}

// closeUDP ends what the port's clients have, or lets it time out.
func (l *listener) closeUDP(cut bool) {}
