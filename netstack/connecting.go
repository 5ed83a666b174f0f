// SPDX-License-Identifier: Apache-2.0

package netstack

import "net/netip"

// The table's books of connects under way, which are bounded, to each address too: on
// the host's side and, of inbound flows, the container's.

// ownShare is which part of the flows, of their descriptors and of the connects under
// way is left to what the container begins itself: one in so many. Clients of published
// ports, who may be anybody, cannot cut it off by holding all there is.
const ownShare = 4

// room reports whether one more client of a published port may come in, for the
// container's address.
func (t *tcpTable) room(to netip.Addr) bool {
	k, limit := &t.kernel, t.n.cfg.MaxFlows
	return len(t.flows) < limit && t.guests < max(1, limit-limit/ownShare) &&
		k.descriptors() < max(1, k.files-k.files/ownShare) &&
		t.connecting < maxConnecting && t.arriving < maxConnecting-maxConnecting/ownShare &&
		t.perHost[to] < maxConnectingPerHost
}

// connected ends the states before open in the table's books.
func (f *tcpFlow) connected() {
	t := f.table
	if f.service {
		return // its host is us
	}
	t.connecting--
	if f.by != nil {
		t.arriving--
	}
	if a := f.dialed(); t.perHost[a] > 1 {
		t.perHost[a]--
	} else {
		delete(t.perHost, a)
	}
}

// connects begins the states connecting and dialing in the table's books.
func (f *tcpFlow) connects() {
	f.table.connecting++
	if f.by != nil {
		f.table.arriving++
	}
	f.table.perHost[f.dialed()]++
}

// dialed returns the address that the flow connects to.
func (f *tcpFlow) dialed() netip.Addr {
	if f.by != nil {
		return f.key.container.Addr()
	}
	return f.host.Addr()
}
