// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"net"
	"net/netip"
	"time"
)

// SetClock makes f read the time from now. Call it before any query.
func (f *Forwarder) SetClock(now func() time.Time) { f.now = now }

// Dialer is what f reaches the server with.
func (f *Forwarder) Dialer(server netip.Addr, tcp bool) *net.Dialer { return f.dialer(server, tcp) }

// Prepare does with the socket fd what is done before it is connected to server.
func (f *Forwarder) Prepare(fd int, server netip.AddrPort) error { return f.prepare(fd, "udp", server) }

// Parts of the package for tests of their own.
const Penalty = penalty

var (
	IsQuery     = isQuery
	Answers     = answers
	Failure     = failure
	Question    = question
	ReceiveSize = receiveSize
)

// ParseResolvConf returns the parts of a resolv.conf.
func ParseResolvConf(text string) (servers []netip.AddrPort, search []string) {
	c := parseResolvConf(text)
	return c.servers, c.search
}

// Servers returns the servers in the order in which a UDP query tries them now.
func (f *Forwarder) Servers() []netip.AddrPort { return f.order(false) }
