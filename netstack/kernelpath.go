// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"math"
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"github.com/slipway-net/slipway/netstack/splice"
	"golang.org/x/sys/unix"
)

// A kernelPath is the spliced path as the Network uses it: which families may take
// it at the moment, what waits to be accepted, and what has ended. It belongs to
// the loop.
type kernelPath struct {
	n           *Network
	hairpin     *splice.Hairpin // nil: there is none
	factory     *splice.Factory // the same
	made        [2]loop.Token   // of its listeners
	pool        relay.Pool
	tokens      [2]loop.Token
	ways        [2]pathOf // IPv4, IPv6
	noForward   bool      // there can be no rules for forwarded flows
	factoryOpen bool
	forwards    bool          // there are
	since       time.Duration // … and since when

	turning  map[tuple]*tcpFlow // their SYN was turned round
	live     map[tuple]*tcpFlow // spliced
	dialing  map[tuple]*tcpFlow // are to be: the container is connected to
	meetings meetings
	hoping   []*tcpFlow         // the factory had no socket for them
	leaving  []*tcpFlow         // are to be excluded before gVisor answers them
	ended    map[tuple]struct{} // are still excluded, and need not be any more
	router   [2]routerState     // by IP version
	mended   time.Duration      // when the rules were last made again
	lines    teller             // bounds what the log gets from us
	files    int                // how many descriptors flows may have
	limit    int                // … and above how many they are stacked
}

// routerState is whether the container forwards packets, as of a moment ago.
type routerState struct {
	forwards bool
	asked    time.Duration
}

// pathOf is the state of the spliced path for one IP version.
//
//	closed ──probe──> trying ──accepted──> opened ──misses, strays──> closed
type pathOf struct {
	state  pathState
	tried  bool // a probe has come through before
	broken bool // the rules are to be made again before the next probe
	told   bool // the log has it that the path is closed
	probe  tuple
	turned int           // how often the probe's SYN has come
	since  time.Duration // when the probe began
	retry  time.Duration // when to probe again
	wait   time.Duration // how long to wait after the next failure
	misses int           // SYNs in a row that were not accepted
	why    string        // it was closed last
}

type pathState uint8

const (
	pathClosed pathState = iota
	pathTrying
	pathOpened
)

const (
	// probePort is dialed by a probe, at the gateway: discard (RFC 863).
	probePort = 9
	// maxMisses is how many SYNs in a row may get lost before a probe is to say
	// whether the path still works.
	maxMisses = 3
	// minRetry and maxRetry bound the time between probes of a closed path.
	minRetry = time.Second
	maxRetry = time.Minute
	// mendEvery is the least time between two repairs on account of packets that
	// come astray: each is a millisecond's work, which the container may cause.
	mendEvery = 200 * time.Millisecond
	// maxEnded is how many stacked flows that have ended are left in the kernel's set
	// before they are taken out, if that is not done by the next tick.
	maxEnded = 4096
	// lateAccept is how long a handshake of the container's kernel with itself may
	// take before something is wrong with it, such as rules of the container's that
	// lose its first packets.
	lateAccept = 500 * time.Millisecond
	// forwardLag is how old the rules for forwarded flows are before they are relied
	// on: SYNs that left before them may still wait in the tap.
	forwardLag = 100 * time.Millisecond
	// spareDescriptors are left for everything that is not a spliced flow.
	spareDescriptors = 512
	// routerFresh is how long it is taken for granted that the container has not begun
	// to forward: to ask costs as much as another system call of each connection.
	routerFresh = 5 * time.Millisecond
	// maxAccepts is how many connections are accepted before it is another's turn.
	maxAccepts = 64
	// maxProbeTurns is how often the SYN of one probe is turned round: the container
	// may forward it back to us, for ever.
	maxProbeTurns = 4
	// turnTimeout is how long a SYN that was turned round may take to be accepted.
	// Where the container still wants to connect, it sends the next one sooner.
	turnTimeout = 3 * time.Second
)

var familyNames = [...]string{"IPv4", "IPv6"}

func (k *kernelPath) init(n *Network) {
	k.n = n
	k.hairpin = n.cfg.Hairpin
	k.turning = make(map[tuple]*tcpFlow)
	k.live = make(map[tuple]*tcpFlow)
	k.dialing = make(map[tuple]*tcpFlow)
	k.factory = n.cfg.Factory
	k.ended = make(map[tuple]struct{})
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil {
		k.files = int(min(lim.Cur, math.MaxInt32))
		k.limit = k.files - spareDescriptors
	}
}

// start watches the listeners and sends the first probes.
func (k *kernelPath) start() error {
	if k.hairpin == nil {
		return nil
	}
	for i, fd := range k.hairpin.Listeners() {
		if fd < 0 {
			continue
		}
		k.ways[i].wait = minRetry
		var err error
		k.tokens[i], err = k.n.loop.Add(fd, loop.Readable|loop.Edge, loop.HandlerFunc(func(loop.Events) {
			k.acceptAll(i)
		}))
		if err != nil {
			return err
		}
	}
	k.tick()
	return nil
}

// stop ends the watch; flows have been closed.
func (k *kernelPath) stop() {
	k.closeFactory()
	if k.hairpin == nil {
		return
	}
	for i, fd := range k.hairpin.Listeners() {
		k.n.loop.Remove(fd, k.tokens[i])
	}
	k.pool.Close()
	k.meetings.close()
}

// tick looks after probes, SYNs that got lost and what has ended.
func (k *kernelPath) tick() {
	k.hopeAgain()
	if k.hairpin == nil {
		return
	}
	k.includeEnded()
	k.meetings.expire()
	for _, f := range k.turning {
		if k.n.now-f.last >= turnTimeout && !f.turnedBy(maxAccepts) {
			f.unturned()
		}
	}
	for i, fd := range k.hairpin.Listeners() {
		w := &k.ways[i]
		switch {
		case fd < 0:
		case w.state == pathTrying && k.n.now-w.since >= tickEvery:
			k.close(i, "a connection that tries it does not come through")
		case w.state == pathClosed && k.n.now >= w.retry:
			k.probe(i)
		}
	}
}

// probe makes a connection inside the container, whose SYN is turned round like
// any other.
func (k *kernelPath) probe(i int) {
	w := &k.ways[i]
	if w.broken {
		k.mend()
	}
	for _, f := range k.n.cfg.Plan.Families() {
		if splice.FamilyOf(f.Gateway) != i {
			continue
		}
		remote := netip.AddrPortFrom(f.Gateway, probePort)
		local, err := k.hairpin.Probe(remote)
		if err != nil {
			w.retry = k.n.now + tickEvery // the container has no route yet
			return
		}
		w.state, w.since, w.turned = pathTrying, k.n.now, 0
		w.probe = tuple{container: local, remote: remote}
	}
}

// close stops the use of the path for new flows, until a probe comes through.
func (k *kernelPath) close(i int, why string) {
	w := &k.ways[i]
	w.state, w.broken, w.why = pathClosed, true, why
	w.retry = k.n.now + w.wait
	if k.lines.allowed(k.n.now) {
		w.told = true
		k.n.log.Warn("TCP is stacked, not spliced", "family", familyNames[i], "why", why, "next try in", w.wait)
	}
	w.wait = min(2*w.wait, maxRetry)
}

// open notes that a probe has come through.
func (k *kernelPath) open(i int) {
	w := &k.ways[i]
	k.hairpin.ProbeDone(i)
	if w.told || !w.tried {
		k.n.log.Info("TCP is spliced", "family", familyNames[i])
	}
	*w = pathOf{state: pathOpened, tried: true, wait: minRetry}
}

// takes reports whether a flow whose host has connected may take the path. While
// frames are captured none does, so that they show all there is.
func (k *kernelPath) takes(f *tcpFlow) bool {
	if k.hairpin == nil || k.n.link.capture.Load() != nil || k.descriptors() >= k.limit {
		return false
	}
	a := f.key.container.Addr()
	return k.ways[splice.FamilyOf(a)].state == pathOpened && (!k.isRouter(a) || k.forward(f))
}

// isRouter reports whether the container forwards packets of the address's family.
func (k *kernelPath) isRouter(a netip.Addr) bool {
	r := &k.router[splice.FamilyOf(a)]
	if r.asked == 0 || k.n.now-r.asked >= routerFresh {
		r.forwards, r.asked = k.hairpin.Forwards(a), k.n.now
	}
	return r.forwards
}

// descriptors is how many the published ports and the flows of all kinds have, or are
// about to have: a spliced one has two.
func (k *kernelPath) descriptors() int {
	t := &k.n.tcp
	return len(k.n.inbound.listeners) + len(t.flows) + len(k.live) + len(k.turning) + len(k.dialing) +
		len(k.n.udp.flows) + len(k.n.ping.flows)
}

// forward reports whether a flow that may be a forwarded one may take the path. One
// that was not masqueraded must not be older than the rules: conntrack does not know
// the SYNs that left before, if nothing else had it track any.
func (k *kernelPath) forward(f *tcpFlow) bool {
	if k.noForward {
		return false
	}
	if !k.forwards {
		if err := k.hairpin.Forward(); err != nil {
			k.noForward = true
			k.n.log.Warn("TCP is stacked while the container forwards", "why", err)
			return false
		}
		k.forwards, k.since = true, k.n.now
	}
	own := k.n.cfg.Plan.Of(f.key.container.Addr()).Container
	return f.key.container.Addr() == own || f.created >= k.since+forwardLag
}

// isProbe reports whether the SYN is our own probe's, and if so turns it round.
func (k *kernelPath) isProbe(key tuple, p *packet, l3 []byte) bool {
	w := &k.ways[splice.FamilyOf(key.container.Addr())]
	if w.probe != key {
		return false
	}
	if w.turned++; w.turned <= maxProbeTurns {
		k.n.turnRound(append(append([]byte(nil), l3...), p.rest...), k.n.partial())
	}
	return true
}

// busy reports whether there are flows that stray could be asked of.
func (k *kernelPath) busy() bool { return len(k.live)+len(k.turning)+len(k.dialing) > 0 }

// stray reports whether a packet from the tap, other than a SYN, is of a flow that
// is spliced: then it was not meant to come here, and the rules have gone. It will
// be sent again.
func (k *kernelPath) stray(key tuple) bool {
	if k.live[key] == nil && k.turning[key] == nil && k.dialing[key] == nil {
		return false
	}
	k.n.count.inc(spliceMissed)
	i := splice.FamilyOf(key.container.Addr())
	if k.ways[i].state == pathOpened {
		k.close(i, "the container has changed its rules or routes")
	}
	if f := k.dialing[key]; f != nil {
		f.closeDialed()
		f.dialStacked()
	}
	if k.n.now-k.mended >= mendEvery {
		k.mend()
		k.probe(i)
	}
	return true
}

// mend makes the rules again, and excludes all flows from them that are stacked.
func (k *kernelPath) mend() {
	k.mended = k.n.now
	var names []splice.Tuple
	for key, f := range k.n.tcp.flows {
		if f.excluded {
			names = append(names, key.names())
		}
	}
	err := k.hairpin.Install(names)
	if err == nil {
		clear(k.ended) // the sets are new
	} else if k.lines.allowed(k.n.now) {
		k.n.log.Warn("the spliced path cannot be mended", "err", err)
	}
}

// acceptAll accepts what waits to be, some at a time: the container may connect to
// our listener as fast as we accept.
func (k *kernelPath) acceptAll(i int) {
	for range maxAccepts {
		if !k.accept(i) {
			return
		}
	}
	k.n.loop.Defer(func() { k.acceptAll(i) })
}

// accept accepts one connection, and reports whether there was one.
func (k *kernelPath) accept(i int) bool {
	fd, names, err := k.hairpin.Accept(i)
	switch err {
	case nil:
	case unix.EAGAIN, unix.EINVAL:
		if err == unix.EINVAL && k.ways[i].state == pathOpened {
			k.close(i, "the container has ended the listening for it")
		}
		return false
	case unix.ECONNABORTED, unix.EINTR:
		return true
	default:
		k.n.noSocket(err)
		return false
	}
	key := tuple{container: names.Container, remote: names.Remote}
	switch f := k.turning[key]; {
	case f != nil:
		delete(k.turning, key)
		if f.endMeeting() || f.unmet {
			k.meetings.failed(key.remote.Addr(), k.n.now)
		}
		if k.n.now-f.last < lateAccept {
			k.ways[i].misses = 0
		} else {
			k.missed(key.container.Addr())
		}
		f.turned(fd)
	case key == k.ways[i].probe:
		resetClose(fd)
		k.open(i)
	default:
		resetClose(fd) // nobody announced it
	}
	return true
}

// missed notes that a SYN that was turned round has not come to be accepted. The
// container may just not want the connection any more; a probe tells.
func (k *kernelPath) missed(a netip.Addr) {
	k.n.count.inc(spliceMissed)
	i := splice.FamilyOf(a)
	w := &k.ways[i]
	if w.misses++; w.misses >= maxMisses && w.state == pathOpened {
		w.misses = 0
		k.probe(i)
	}
}

func (t tuple) names() splice.Tuple {
	return splice.Tuple{Container: t.container, Remote: t.remote}
}
