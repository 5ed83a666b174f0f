// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/dns"
	"github.com/slipway-net/slipway/netstack/loop"
)

// A dnsTable holds the queries that wait for the first server's answer. Those
// that the first server fails go on in a goroutine each.
type dnsTable struct {
	n       *Network
	waiting list.List   // of *dnsQuery, in the order in which they expire
	timer   *time.Timer // for the first of them, or an earlier one
	armed   bool
	room    []byte // for an answer
}

// A dnsQuery is a query of the container's. It is owned by the loop.
type dnsQuery struct {
	table    *dnsTable
	attempt  *dns.Attempt
	from, to netip.AddrPort
	expires  time.Duration // in the Network's time
	token    loop.Token
	element  *list.Element
}

func (t *dnsTable) init(n *Network) {
	t.n = n
	t.waiting.Init()
}

// ask forwards a query.
func (t *dnsTable) ask(query []byte, from, to netip.AddrPort) {
	n := t.n
	n.count.inc(dnsQueries)
	a, answer := n.cfg.DNS.Begin(query)
	q := &dnsQuery{table: t, attempt: a, from: from, to: to}
	if a == nil {
		q.answer(answer)
		return
	}
	var err error
	if a.FD() >= 0 {
		q.token, err = n.loop.Add(a.FD(), loop.Readable, q)
	}
	if a.FD() < 0 || err != nil {
		q.resume()
		return
	}
	q.expires = n.now + n.cfg.DNS.Timeout()
	q.element = t.waiting.PushBack(q)
	t.arm()
}

// Ready implements loop.Handler.
func (q *dnsQuery) Ready(loop.Events) {
	t := q.table
	if t.room == nil {
		t.room = make([]byte, dns.MaxAnswer)
	}
	answer, waiting := q.attempt.Receive(t.room)
	switch {
	case waiting:
	case answer == nil:
		q.resume()
	default:
		q.answer(answer) // first: the container waits for it
		q.forget()
		q.attempt.Close()
	}
}

// resume lets a goroutine ask the other servers.
func (q *dnsQuery) resume() {
	q.forget()
	n := q.table.n
	n.services.Go(func() {
		answer := q.attempt.Resume(n.ctx)
		n.loop.Post(func() { q.answer(answer) })
	})
}

// forget ends the wait for the first server.
func (q *dnsQuery) forget() {
	if q.element != nil {
		q.table.n.loop.Remove(q.attempt.FD(), q.token)
		q.table.waiting.Remove(q.element)
		q.element = nil
	}
}

// answer tells the container, if there is anything to tell.
func (q *dnsQuery) answer(b []byte) {
	n := q.table.n
	if b == nil {
		n.count.inc(dropNoAnswer)
		return
	}
	n.emit.udp(ipHeader{src: q.to.Addr(), dst: q.from.Addr()}, q.to.Port(), q.from.Port(), 0, b)
}

// arm sets the timer, unless it is set: it is for the query that expires first,
// and most are answered long before. One that goes off for nothing is set anew, so
// that it costs little however many queries there are.
func (t *dnsTable) arm() {
	first := t.waiting.Front()
	if t.armed || first == nil {
		return
	}
	t.armed = true
	in := first.Value.(*dnsQuery).expires - t.n.now
	if t.timer == nil {
		t.timer = time.AfterFunc(in, func() { t.n.loop.Post(t.expire) })
		return
	}
	t.timer.Reset(in)
}

// expire hands on the queries that were not answered in time.
func (t *dnsTable) expire() {
	t.n.setNow()
	t.armed = false
	for e := t.waiting.Front(); e != nil; e = t.waiting.Front() {
		q := e.Value.(*dnsQuery)
		if q.expires > t.n.now {
			break
		}
		q.attempt.Expire()
		q.resume()
	}
	t.arm()
}

// closeAll gives up all queries. The loop no longer runs.
func (t *dnsTable) closeAll() {
	if t.timer != nil {
		t.timer.Stop()
	}
	for e := t.waiting.Front(); e != nil; e = t.waiting.Front() {
		q := e.Value.(*dnsQuery)
		q.forget()
		q.attempt.Close()
	}
}
