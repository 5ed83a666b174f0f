// SPDX-License-Identifier: Apache-2.0

package netstack

import "net/netip"

// The table's books of connects under way, which are bounded, to each address too: on
// the host's side and, of inbound flows, the container's.

// connected ends the states before open in the table's books.
func (f *tcpFlow) connected() {
	t := f.table
	if f.service {
		return // its host is us
	}
	t.connecting--
	if a := f.dialed(); t.perHost[a] > 1 {
		t.perHost[a]--
	} else {
		delete(t.perHost, a)
	}
}

// connects begins the states connecting and dialing in the table's books.
func (f *tcpFlow) connects() {
	f.table.connecting++
	f.table.perHost[f.dialed()]++
}

// dialed returns the address that the flow connects to.
func (f *tcpFlow) dialed() netip.Addr {
	if f.by != nil {
		return f.key.container.Addr()
	}
	return f.host.Addr()
}
