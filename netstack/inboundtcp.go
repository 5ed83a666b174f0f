// SPDX-License-Identifier: Apache-2.0

package netstack

// acceptTCP accepts what waits at a published TCP port.
func (l *listener) acceptTCP() {}

// closeTCP ends the flows that came by the port, if so wished.
func (l *listener) closeTCP(cut bool) {}
