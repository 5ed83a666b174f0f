// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"container/list"
	"errors"
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// A mapping is what a container's address and port, or echo identifier, is mapped
// to: a datagram socket of the host. It is owned by the loop.
type mapping struct {
	flow
	element *list.Element
	fd      int
	token   loop.Token
}

func (m *mapping) base() *mapping { return m }

// mapped is a flow that is a mapping.
type mapped interface {
	comparable
	loop.Handler
	base() *mapping
	lastUsed() time.Duration
	info() FlowInfo
}

// A mappingTable has the mappings of one kind. It is owned by the loop.
type mappingTable[K comparable, F mapped] struct {
	n     *Network
	limit int
	flows map[K]F
	keyOf func(F) K
	idle  list.List // of F, least recently used first
}

func (t *mappingTable[K, F]) init(n *Network, limit int, keyOf func(F) K) {
	t.n, t.limit, t.keyOf = n, limit, keyOf
	t.flows = make(map[K]F)
	t.idle.Init()
}

// socket makes the socket of a new mapping, at the expense of the least recently
// used one where there are as many as may be. The error is nil, and the descriptor
// negative, where none may be replaced now.
func (t *mappingTable[K, F]) socket(dst netip.Addr, proto int) (int, error) {
	if len(t.flows) >= t.limit && !t.replace() {
		return -1, nil
	}
	fd, err := t.n.cfg.Outbound.socket(dst, unix.SOCK_DGRAM, proto)
	if (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)) && t.replace() {
		// No descriptor left: the oldest mapping gives its own.
		fd, err = t.n.cfg.Outbound.socket(dst, unix.SOCK_DGRAM, proto)
	}
	return fd, err
}

// replace closes the least recently used mapping, if there is one and it may be.
func (t *mappingTable[K, F]) replace() bool {
	if t.idle.Len() == 0 || !t.n.evict() {
		return false
	}
	t.close(t.idle.Front().Value.(F))
	return true
}

// add watches the socket of f and takes f in, and reports whether it could; if not,
// the socket is closed.
func (t *mappingTable[K, F]) add(f F) bool {
	m := f.base()
	var err error
	if m.token, err = t.n.loop.Add(m.fd, loop.Readable|loop.Edge, f); err != nil {
		unix.Close(m.fd)
		t.n.noSocket(err)
		return false
	}
	m.element = t.idle.PushBack(f)
	t.flows[t.keyOf(f)] = f
	return true
}

// used notes that f is the most recently used.
func (t *mappingTable[K, F]) used(f F) {
	m := f.base()
	m.last = t.n.now
	t.idle.MoveToBack(m.element)
}

// expire closes the mappings that were idle for at least so long, and that over
// says it of too.
func (t *mappingTable[K, F]) expire(least time.Duration, over func(f F, idle time.Duration) bool) {
	expireIdle(&t.idle, t.n.now, least, over, t.close)
}

// expireIdle is expire for any flows in the order of their last use.
func expireIdle[F interface{ lastUsed() time.Duration }](idle *list.List, now, least time.Duration,
	over func(F, time.Duration) bool, end func(F)) {
	for e := idle.Front(); e != nil; {
		f := e.Value.(F)
		e = e.Next()
		d := now - f.lastUsed()
		if d < least {
			return // the list is in the order of last use
		}
		if over(f, d) {
			end(f)
		}
	}
}

func (t *mappingTable[K, F]) closeAll() {
	for _, f := range t.flows {
		t.close(f)
	}
}

func (t *mappingTable[K, F]) close(f F) {
	m := f.base()
	t.n.pending.flush()
	t.n.loop.Remove(m.fd, m.token)
	unix.Close(m.fd)
	t.idle.Remove(m.element)
	delete(t.flows, t.keyOf(f))
	t.n.logFlow("flow closed", f.info)
}

func (t *mappingTable[K, F]) infos(fs []FlowInfo) []FlowInfo {
	for _, f := range t.flows {
		fs = append(fs, f.info())
	}
	return fs
}
