// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// A hunt is the way of one query from server to server.
type hunt struct {
	tcp     bool
	servers []netip.AddrPort // of this round; not the hunt's to change
	next    int              // which of them is asked now
	round   int
	poor    []byte           // the last answer that another server may better
	silent  []netip.AddrPort // those that did not answer in time
}

// over reports whether there is no server left to ask; poor, if there is one, is
// the answer then.
func (h *hunt) over() bool { return h.next == len(h.servers) }

// server returns the server to ask.
func (h *hunt) server() netip.AddrPort { return h.servers[h.next] }

// advance goes on to the next server, or round.
func (h *hunt) advance() {
	if h.next++; h.over() && h.poor == nil && h.round+1 < rounds {
		h.servers, h.silent, h.next = h.silent, nil, 0
		h.round++
	}
}

// settle takes the outcome of asking h's server: an answer, or why there is none.
// It reports whether that answer is good enough for the container, and goes on to
// the next server if it is not.
func (f *Forwarder) settle(h *hunt, answer []byte, err error) bool {
	p := path{h.server(), h.tcp}
	switch {
	case err == nil && !poorAnswer(answer):
		f.succeeded(p)
		return true
	case err == nil:
		h.poor = answer
	default:
		f.failed(p, err)
		if isTimeout(err) {
			h.silent = append(h.silent, p.server)
		}
	}
	h.advance()
	return false
}

// finish asks the servers that are left until one has a useful answer, and
// returns what the container gets: nil if ctx has ended.
func (f *Forwarder) finish(ctx context.Context, query []byte, h *hunt, began time.Time) []byte {
	limited, cancel := context.WithDeadline(ctx, began.Add(max(TotalTimeout, f.cfg.Timeout)))
	defer cancel()
	answer := f.resolve(limited, query, h)
	if answer == nil && ctx.Err() != nil {
		return nil
	}
	return f.conclude(query, answer)
}

func (f *Forwarder) resolve(ctx context.Context, query []byte, h *hunt) []byte {
	for !h.over() {
		answer, err := f.ask(ctx, h.server(), query, h.tcp)
		if err != nil && ctx.Err() != nil {
			return h.poor
		}
		if f.settle(h, answer, err) {
			return answer
		}
	}
	return h.poor
}

// conclude counts a query that has come to its end, and makes up an answer where
// no server had any.
func (f *Forwarder) conclude(query, answer []byte) []byte {
	if answer != nil {
		f.stats.answered.Add(1)
		return answer
	}
	f.stats.failed.Add(1)
	return failure(query, rcodeServFail)
}

// order returns the servers, those that failed lately last. They are not the
// caller's to change.
func (f *Forwarder) order(tcp bool) []netip.AddrPort {
	f.refresh()
	return f.current(tcp)
}

// current is order without a look at the file.
func (f *Forwarder) current(tcp bool) []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.badUntil) == 0 {
		return f.conf.servers
	}
	now := f.now()
	var good, bad []netip.AddrPort
	for _, s := range f.conf.servers {
		if now.Before(f.badUntil[path{s, tcp}]) {
			bad = append(bad, s)
		} else {
			good = append(good, s)
		}
	}
	return append(good, bad...)
}

func (f *Forwarder) succeeded(p path) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.badUntil, p)
}

func (f *Forwarder) failed(p path, err error) {
	f.stats.failovers.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if !slices.Contains(f.conf.servers, p.server) {
		return // replaced meanwhile; badUntil holds current servers only
	}
	if !now.Before(f.badUntil[p]) {
		f.log.Warn("dns server failed, asking it last for a while", "server", p.server, "tcp", p.tcp, "for", penalty, "err", err)
	}
	f.badUntil[p] = now.Add(penalty)
}
