// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway-net/slipway/tap"
)

const (
	// DefaultMax is how many ports a Table publishes at most, where its Config does
	// not say. Each is a descriptor and a kilobyte or two of the kernel's.
	DefaultMax = 16384
	// closeWait is how long Close waits for a Stack that no longer runs.
	closeWait = time.Second
	// maxNamed is how many IDs an error names.
	maxNamed = 8
)

// A Config says what a Table works with. Stack is needed.
type Config struct {
	// Stack serves the ports.
	Stack Stack
	// Plan is the container's address plan.
	Plan tap.Plan
	// Loopback gets ready for services of that protocol at the container's loopback, or
	// says why they are out of reach. It is called before one of their ports is
	// published, by one goroutine at a time. Nil means that all are within reach.
	Loopback func(Proto) error
	// Max is how many ports may be published at a time; 0 means DefaultMax.
	Max int
	// Log receives what is published and what not. Nil discards it.
	Log *slog.Logger
}

// A Table has the ports that are published. Its methods may be called from any
// goroutine; changes happen one after the other. Make it with New.
type Table struct {
	cfg Config
	log *slog.Logger
	// editing is held by whoever changes the table. Waiting for it ends with a ctx,
	// hence no Mutex.
	editing chan struct{}
	low     lowPorts

	mu     sync.Mutex // held for moments, never while a system call or the Stack works
	closed bool
	lastID int
	ports  map[int]Port
	taken  map[portKey][]Port // by the host's port: of each a few, at several addresses
	led    map[portKey]int    // how many that are not Auto lead to the container's port
	// dismissed has the container's ports that a Follower published and somebody has
	// removed by Remove; the Follower takes them out when their services end.
	dismissed map[portKey]bool
}

// A portKey is a port of the host's or of the container's.
type portKey struct {
	proto Proto
	port  uint16
}

func (p Port) hostKey() portKey      { return portKey{p.Proto, p.Host.Port()} }
func (p Port) containerKey() portKey { return portKey{p.Proto, p.Container.Port()} }

// New returns a Table without ports.
func New(cfg Config) *Table {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Max = cmp.Or(cfg.Max, DefaultMax)
	return &Table{
		cfg: cfg, log: cfg.Log, editing: make(chan struct{}, 1), low: openLowPorts(),
		ports: make(map[int]Port), taken: make(map[portKey][]Port), led: make(map[portKey]int),
		dismissed: make(map[portKey]bool),
	}
}

// Ports returns what is published, in the order of their IDs, which is that in which
// they were added.
func (t *Table) Ports() []Port {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.ports))
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b Port) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Add publishes the ports of all rules, or, where it returns an error, none of them.
// It returns them in the order of the rules. No client gets in before all sockets
// are made. A port that a Follower has published gives way.
//
// Errors are ErrRule, ErrInUse, ErrPrivileged, ErrNotOurs, ErrNoInterface,
// ErrNoLoopback, ErrTooMany, ErrClosed, that of ctx, or the system's.
func (t *Table) Add(ctx context.Context, rules []Rule) ([]Port, error) {
	return t.add(ctx, rules, false, true)
}

// add publishes; auto is for ports of a Follower, and search finds out who has a
// port that is in use.
func (t *Table) add(ctx context.Context, rules []Rule, auto, search bool) ([]Port, error) {
	ports, err := t.expand(rules, auto)
	if err != nil {
		return nil, err
	}
	unlock, err := t.edit(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	giveWay, err := t.room(ports)
	if err != nil {
		return nil, err
	}
	if err := t.reachLoopback(ports); err != nil {
		return nil, err
	}
	t.withdraw(ctx, giveWay, false)
	b := batch{ports: ports, low: t.low}
	if err := b.open(ctx, search); err != nil {
		b.close()
		return nil, err
	}
	t.publish(&b)
	return b.ports, nil
}

// expand checks the rules and returns their ports.
func (t *Table) expand(rules []Rule, auto bool) ([]Port, error) {
	count := 0
	for _, r := range rules {
		if err := r.Check(); err != nil {
			return nil, err
		}
		if why := r.outOfPlan(t.cfg.Plan); why != "" {
			return nil, &failure{kind: ErrRule, text: fmt.Sprintf("rule %q: %s", r, why)}
		}
		// Checked on the way, lest a long list of long ranges take up memory.
		if count += int(r.Count); count > t.cfg.Max {
			return nil, t.tooMany(count, 0)
		}
	}
	ports := make([]Port, 0, count)
	for _, r := range rules {
		for i := range int(r.Count) {
			ports = append(ports, portOfRule(r.one(i), auto))
		}
	}
	return ports, nil
}

// reachLoopback gets ready for those ports that lead to the container's loopback.
func (t *Table) reachLoopback(ports []Port) error {
	ready := Proto("")
	for _, p := range ports {
		if !p.Loopback || p.Proto == ready || t.cfg.Loopback == nil {
			continue
		}
		if err := t.cfg.Loopback(p.Proto); err != nil {
			return &failure{kind: ErrNoLoopback, cause: err, text: fmt.Sprintf("publish %s: the container's loopback is out of reach: %v: "+
				"have the service listen at the container's own address, and leave out ,%s", p.Rule(), err, optLoopback)}
		}
		ready = p.Proto // ports of one rule follow each other
	}
	return nil
}

// edit waits for the right to change the table, and returns what gives it back.
func (t *Table) edit(ctx context.Context) (unlock func(), err error) {
	free := t.editing
	if ctx.Err() != nil {
		free = nil // select would toss a coin
	}
	select {
	case free <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to change the published ports: %w", ctx.Err())
	}
	unlock = func() { <-t.editing }
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		unlock()
		return nil, ErrClosed
	}
	return unlock, nil
}

// room says whether there is some for the ports, and which have to give way.
func (t *Table) room(ports []Port) (giveWay []int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ports)+len(ports) > t.cfg.Max {
		return nil, t.tooMany(len(ports), len(t.ports))
	}
	var asked map[portKey][]Port // what this very call has asked for
	if len(ports) > 1 {
		asked = make(map[portKey][]Port, len(ports))
	}
	for _, p := range ports {
		if p.Host.Port() == 0 {
			continue
		}
		for _, o := range t.taken[p.hostKey()] {
			switch {
			case !p.collides(o):
			case o.Auto && !p.Auto:
				giveWay = append(giveWay, o.ID)
			default:
				return nil, collision(p, "port "+strconv.Itoa(o.ID)+" of this container, "+o.String()+": remove it first, or choose another port")
			}
		}
		for _, o := range asked[p.hostKey()] {
			if p.collides(o) {
				return nil, collision(p, "another of the same rules, "+o.String()+": leave out one of them")
			}
		}
		if asked != nil {
			asked[p.hostKey()] = append(asked[p.hostKey()], p)
		}
	}
	return giveWay, nil
}

func collision(p Port, by string) error {
	return &failure{kind: ErrInUse, text: fmt.Sprintf("publish %s: %s is taken by %s", p, portText(p.Rule()), by)}
}

func (t *Table) tooMany(more, have int) error {
	return &failure{kind: ErrTooMany, text: fmt.Sprintf("publish %d more ports, with %d published: want at most %d of one container", more, have, t.cfg.Max)}
}

// publish takes a batch into the table and hands it to the Stack.
func (t *Table) publish(b *batch) {
	t.mu.Lock()
	for i := range b.ports {
		p := &b.ports[i]
		t.lastID++
		p.ID, b.listeners[i].ID = t.lastID, t.lastID
		t.ports[p.ID] = *p
		t.taken[p.hostKey()] = append(t.taken[p.hostKey()], *p)
		if !p.Auto {
			t.led[p.containerKey()]++
		}
	}
	t.mu.Unlock()
	for _, p := range b.ports {
		t.log.Debug("published", "id", p.ID, "port", p.String())
	}
	if len(b.listeners) > 0 {
		t.cfg.Stack.Publish(b.listeners)
	}
}

// Remove ends the publishing of all ports with these IDs, or, where one of them is
// unknown, of none of them, and returns ErrNoPort. Their connections go on, unless
// cut is set. If ctx is done before the sockets are closed, its error is returned,
// and they will be.
func (t *Table) Remove(ctx context.Context, ids []int, cut bool) error {
	unlock, err := t.edit(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	if err := t.known(ids); err != nil {
		return err
	}
	t.dismiss(ids)
	t.withdraw(ctx, ids, cut)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait for %d ports to close: %w", len(ids), err)
	}
	return nil
}

// known returns an error that names what of ids is not published.
func (t *Table) known(ids []int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var unknown []string
	for _, id := range ids {
		if _, ok := t.ports[id]; ok {
			continue
		}
		if len(unknown) == maxNamed {
			unknown = append(unknown, "and others")
			break
		}
		unknown = append(unknown, strconv.Itoa(id))
	}
	if unknown == nil {
		return nil
	}
	return &failure{kind: ErrNoPort, text: "no port is published with the ID " + strings.Join(unknown, ", ") + ": list the ports to see theirs"}
}

// dismiss keeps a Follower from publishing again what of ids it has.
func (t *Table) dismiss(ids []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if p := t.ports[id]; p.Auto {
			t.dismissed[p.containerKey()] = true
		}
	}
}

// withdraw takes ports out of the table, those that are in it, and has the Stack
// close them.
func (t *Table) withdraw(ctx context.Context, ids []int, cut bool) {
	there := make([]int, 0, len(ids))
	t.mu.Lock()
	for _, id := range ids {
		if p, ok := t.ports[id]; ok {
			t.drop(p)
			there = append(there, id)
		}
	}
	t.mu.Unlock()
	if len(there) > 0 {
		t.cfg.Stack.Withdraw(ctx, there, cut)
		t.log.Debug("published no more", "ids", there)
	}
}

// drop forgets a port.
func (t *Table) drop(p Port) {
	delete(t.ports, p.ID)
	key := p.hostKey()
	t.taken[key] = slices.DeleteFunc(t.taken[key], func(o Port) bool { return o.ID == p.ID })
	if len(t.taken[key]) == 0 {
		delete(t.taken, key)
	}
	if p.Auto {
		return
	}
	key = p.containerKey()
	if t.led[key]--; t.led[key] == 0 {
		delete(t.led, key)
	}
}

// Close ends the publishing of all ports, and cuts their connections. It waits for
// the Stack, a second at most. Whoever adds ports then gets ErrClosed. It may be
// called again.
func (t *Table) Close() {
	defer t.low.close()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	unlock, err := t.edit(ctx)
	if errors.Is(err, ErrClosed) {
		return
	}
	t.mu.Lock()
	t.closed = true
	ids := slices.Sorted(maps.Keys(t.ports))
	t.mu.Unlock()
	if err != nil {
		return // the Stack is stuck with another change, and closes what it has by itself
	}
	t.withdraw(ctx, ids, true)
	unlock()
}
