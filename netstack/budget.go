// SPDX-License-Identifier: Apache-2.0

package netstack

import "gvisor.dev/gvisor/pkg/tcpip"

const (
	// bufferBudget is what the buffers of all TCP connections may hold together,
	// each way (bytes): the share of each is bufferMax while they are few, and
	// halves with every doubling of their number. What a connection holds at that
	// moment it keeps until it is read, so that one that fills its share at each
	// step makes it six times as much, and not the 64 GiB of bufferMax for each.
	bufferBudget = 64 << 20
	// bufferMax and bufferMin bound a connection's share (bytes). The least still
	// lets the container's kernel send at the speed of the link's round trip.
	bufferMax = 4 << 20
	bufferMin = 16 << 10
	// growAt is how many times the present share there must be for everybody
	// before the shares grow again: one connection that comes and goes must not
	// change them each time.
	growAt = 4
)

// A budget shares the memory for what gVisor buffers among the open connections
// of a table. It is owned by the loop. The zero budget has no connections.
type budget struct {
	open  int // connections that have a share
	share int // bytes each way; 0 is bufferMax
}

// enter counts a connection more, and reports whether the share of all changed.
func (b *budget) enter() (changed bool) {
	b.open++
	if s := shareOf(b.open); s < b.bytes() {
		b.share = s
		return true
	}
	return false
}

// leave counts a connection less, and reports whether the share of all changed.
func (b *budget) leave() (changed bool) {
	b.open--
	if s := shareOf(b.open); s >= growAt*b.bytes() {
		b.share = s
		return true
	}
	return false
}

// bytes returns what one connection may buffer each way.
func (b *budget) bytes() int {
	if b.share == 0 {
		return bufferMax
	}
	return b.share
}

// scarce reports whether memory is shared by so many that small packets must not
// hold large buffers.
func (b *budget) scarce() bool { return b.bytes() < bufferMax }

// shareOf returns the share of each of so many connections: a power of two.
func shareOf(connections int) int {
	share := bufferMax
	for share > bufferMin && share*connections > bufferBudget {
		share /= 2
	}
	return share
}

// admit gives an open flow its share of the budget, and all others theirs, where
// that is a smaller one now.
func (t *tcpTable) admit(f *tcpFlow) {
	f.shared = true
	if t.budget.enter() {
		t.reshare()
	} else if t.budget.scarce() {
		setBuffers(f.ep, t.budget.bytes())
	}
}

// dismiss takes the share of a flow back.
func (t *tcpTable) dismiss(f *tcpFlow) {
	if !f.shared {
		return
	}
	f.shared = false
	if t.budget.leave() {
		t.reshare()
	}
}

// reshare gives every flow its share.
func (t *tcpTable) reshare() {
	for _, f := range t.flows {
		if f.shared {
			setBuffers(f.ep, t.budget.bytes())
		}
	}
}

// setBuffers bounds what gVisor buffers each way. What it has already, it keeps.
func setBuffers(ep tcpip.Endpoint, bytes int) {
	o := ep.SocketOptions()
	o.SetReceiveBufferSize(int64(bytes), true)
	o.SetSendBufferSize(int64(bytes), true)
}
