// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A kernelPath is the spliced path as the Network uses it: which families may take
// it at the moment, what waits to be accepted, and what has ended. It belongs to
// the loop.
type kernelPath struct {
	n         *Network
	hairpin   *splice.Hairpin // nil: there is none
	pool      splice.Pool
	tokens    [2]loop.Token
	ways      [2]familyPath // IPv4, IPv6
	noForward bool          // there can be no rules for forwarded flows
	turning   map[tuple]*tcpFlow
	ended     map[tuple]struct{} // their tuples are still in the kernel's set
}

// familyPath is the state of the spliced path for one IP version.
//
//	closed ──probe──> trying ──accepted──> open ──misses──> closed
type familyPath struct {
	state  pathState
	probe  tuple
	since  time.Duration // of the probe
	retry  time.Duration // when to probe again
	wait   time.Duration // how long to wait after the next failure
	misses int           // SYNs in a row that were not accepted
}

type pathState uint8

const (
	pathClosed pathState = iota
	pathTrying
	pathOpen
)

const (
	// probePort is dialed by a probe, at the gateway: discard (RFC 863).
	probePort = 9
	// maxMisses is how many SYNs in a row may get lost before the path is taken
	// for broken.
	maxMisses = 3
	// minRetry and maxRetry bound the time between probes of a closed path.
	minRetry = time.Second
	maxRetry = time.Minute
	// maxEnded is how many tuples of ended flows are left in the kernel's set
	// before they are taken out, if that is not done by the next tick.
	maxEnded = 4096
)

func (k *kernelPath) init(n *Network) {
	k.n = n
	k.hairpin = n.cfg.Hairpin
	k.turning = make(map[tuple]*tcpFlow)
	k.ended = make(map[tuple]struct{})
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
		var err error
		if k.tokens[i], err = k.n.loop.Add(fd, loop.Readable|loop.Edge, loop.HandlerFunc(func(loop.Events) { k.acceptAll(i) })); err != nil {
			return err
		}
		k.ways[i].wait = minRetry
	}
	k.tick()
	return nil
}

// stop ends the watch; flows have been closed.
func (k *kernelPath) stop() {
	if k.hairpin == nil {
		return
	}
	for i, fd := range k.hairpin.Listeners() {
		k.n.loop.Remove(fd, k.tokens[i])
	}
	k.forgetEnded()
	k.pool.Close()
}

// tick looks after probes and what has ended.
func (k *kernelPath) tick() {
	if k.hairpin == nil {
		return
	}
	k.forgetEnded()
	for i, fd := range k.hairpin.Listeners() {
		w := &k.ways[i]
		switch {
		case fd < 0:
		case w.state == pathTrying && k.n.now-w.since >= tickEvery:
			k.close(i, "a connection through it was not made")
		case w.state == pathClosed && k.n.now >= w.retry:
			k.probe(i)
		}
	}
}

// probe makes a connection inside the container, whose SYN the gate turns round.
func (k *kernelPath) probe(i int) {
	w := &k.ways[i]
	gateway := k.n.cfg.Plan.Families()
	w.since = k.n.now
	for _, f := range gateway {
		if f.Gateway.Is6() != (i == 1) {
			continue
		}
		remote := netip.AddrPortFrom(f.Gateway, probePort)
		local, err := k.hairpin.Probe(remote)
		if err != nil {
			w.retry = k.n.now + tickEvery // there is no route yet
			return
		}
		w.state, w.probe = pathTrying, tuple{container: local, remote: remote}
	}
}

// close stops the use of the path for new flows.
func (k *kernelPath) close(i int, why string) {
	w := &k.ways[i]
	w.state = pathClosed
	w.retry = k.n.now + w.wait
	w.wait = min(2*w.wait, maxRetry)
	k.n.log.Warn("TCP is not spliced", "family", familyNames[i], "why", why, "next try", w.retry-k.n.now)
}

var familyNames = [2]string{"IPv4", "IPv6"}

func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// opened notes that the probe has come through.
func (k *kernelPath) opened(i int) {
	w := &k.ways[i]
	w.state, w.misses, w.wait = pathOpen, 0, minRetry
	k.n.log.Info("TCP is spliced", "family", familyNames[i])
}

// takes reports whether a flow whose host has connected may take the path.
func (k *kernelPath) takes(f *tcpFlow) bool {
	if k.hairpin == nil || f.service || k.n.link.capture.Load() != nil {
		return false
	}
	a := f.key.container.Addr()
	return k.ways[familyIndex(a)].state == pathOpen && (!k.hairpin.Forwards(a) || k.forward())
}

// forward reports whether forwarded flows may take the path.
func (k *kernelPath) forward() bool {
	if k.noForward {
		return false
	}
	if err := k.hairpin.Forward(); err != nil {
		k.noForward = true
		k.n.log.Warn("TCP is stacked while the container forwards", "why", err)
		return false
	}
	return true
}

// isProbe reports whether the SYN is our own probe's, and if so turns it round.
func (k *kernelPath) isProbe(key tuple, p *packet, l3 []byte) bool {
	w := &k.ways[familyIndex(key.container.Addr())]
	if w.state != pathTrying || w.probe != key {
		return false
	}
	k.n.turnRound(append(append([]byte(nil), l3...), p.rest...), k.n.partial())
	return true
}

// missed notes that a SYN that was turned round did not come to be accepted.
func (k *kernelPath) missed(f *tcpFlow) {
	i := familyIndex(f.key.container.Addr())
	w := &k.ways[i]
	if w.misses++; w.misses >= maxMisses && w.state == pathOpen {
		k.close(i, "connections through it are no longer made")
	}
}

// acceptAll accepts what waits at a listener.
func (k *kernelPath) acceptAll(i int) {
	for k.accept(i) {
	}
}

// accept accepts one connection, and reports whether there was one.
func (k *kernelPath) accept(i int) bool {
	fd, names, err := k.hairpin.Accept(i)
	if err != nil {
		return err == unix.ECONNABORTED || err == unix.EINTR
	}
	key := tuple{container: names.Container, remote: names.Remote}
	w := &k.ways[i]
	f := k.turning[key]
	switch {
	case f != nil:
		delete(k.turning, key)
		w.misses = 0
		f.turned(fd)
	case w.state == pathTrying && key == w.probe:
		resetClose(fd)
		k.hairpin.ProbeDone(i)
		k.end(key)
		k.opened(i)
	default:
		// Nobody announced it.
		k.n.log.Debug("unannounced", "key", key)
		resetClose(fd)
	}
	return true
}

// end notes that the flow of the tuple has ended.
func (k *kernelPath) end(key tuple) {
	k.ended[key] = struct{}{}
	if len(k.ended) >= maxEnded {
		k.forgetEnded()
	}
}

// forgetEnded takes the tuples of ended flows out of the kernel's set.
func (k *kernelPath) forgetEnded() {
	if len(k.ended) == 0 {
		return
	}
	all := make([]splice.Tuple, 0, len(k.ended))
	for t := range k.ended {
		all = append(all, splice.Tuple{Container: t.container, Remote: t.remote})
	}
	clear(k.ended)
	if err := k.hairpin.Forget(all); err != nil {
		k.n.log.Warn("ended flows are left in nftables", "flows", len(all), "err", err)
	}
}

// partial reports whether the checksum of the packet that was just read is left
// to the reader.
func (n *Network) partial() bool {
	var vh tap.VNetHdr
	if n.link.offload.Has(tap.OffloadVNet) {
		vh.Decode(n.rx.vnet[:])
	}
	return partialChecksum(&vh)
}

// turnRound writes a SYN of the container's, from its IP header on, back into the
// tap.
func (n *Network) turnRound(l3 []byte, partial bool) {
	ethertype, l4 := uint16(header.IPv6ProtocolNumber), ipv6Len
	if l3[0]>>4 == 4 {
		ethertype, l4 = uint16(header.IPv4ProtocolNumber), int(header.IPv4(l3).HeaderLength())
	}
	e := &n.emit
	e.link.putEthernet(e.buf[:], ethertype)
	e.parts = [2][]byte{e.buf[:ethernetLen], l3}
	var vh tap.VNetHdr
	if partial {
		vh = tap.VNetHdr{Flags: tap.VNetNeedsCSum, CSumStart: uint16(ethernetLen + l4), CSumOffset: header.TCPChecksumOffset}
	}
	e.link.write(&vh, e.parts[:])
}

// resetClose closes a socket with a RST to its peer.
func resetClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}

// turn turns the flow's SYN round in the container's kernel: what is accepted for
// it at the listener is the container's end.
func (f *tcpFlow) turn() {
	t := f.table
	k := &t.kernel
	f.state, f.last = turning, t.n.now
	delete(k.ended, f.key)
	k.turning[f.key] = f
	t.n.turnRound(f.syn, f.partial)
	// By now it is there, as a rule.
	k.accept(familyIndex(f.key.container.Addr()))
}

// stack gives up on a flow's being turned round, and lets gVisor have it.
func (f *tcpFlow) stack() {
	k := &f.table.kernel
	delete(k.turning, f.key)
	k.end(f.key)
	k.missed(f)
	f.shake()
}

// turned is called when the container's kernel has shaken hands with our listener.
func (f *tcpFlow) turned(fd int) {
	t := f.table
	f.connected()
	f.syn = nil
	f.kernel = &kernelFlow{fd: fd}
	k := f.kernel
	k.relay.Start(&t.kernel.pool, fd, f.fd)
	f.state, f.last = open, t.n.now
	var err error
	if k.token, err = t.n.loop.Add(fd, hostEvents, loop.HandlerFunc(f.containerReady)); err != nil {
		t.n.noSocket(err)
		f.breakOff()
		return
	}
	k.relay.Note(splice.Host, f.events)
	t.n.logFlow("flow open", f.info())
}

// kernelFlow is what a spliced flow has more than a stacked one.
type kernelFlow struct {
	fd    int // the container's end
	token loop.Token
	relay splice.Relay
}

func (f *tcpFlow) containerReady(ev loop.Events) {
	if f.state != open {
		return
	}
	f.kernel.relay.Note(splice.Container, ev)
	f.relay()
}

// relay moves bytes both ways.
func (f *tcpFlow) relay() {
	if f.state != open {
		return
	}
	r := &f.kernel.relay
	f.last = f.table.n.now
	more, err := r.Move()
	f.up, f.down = r.Moved(splice.Container), r.Moved(splice.Host)
	switch {
	case err != nil:
		f.breakOff()
	case r.Done():
		f.closeKernel(false)
		f.endSpliced("flow closed", false)
	case more:
		f.table.n.loop.Defer(f.relay)
	}
}

// breakOff resets both ends.
func (f *tcpFlow) breakOff() {
	f.closeKernel(true)
	f.endSpliced("flow reset", true)
}

func (f *tcpFlow) endSpliced(msg string, reset bool) {
	t := f.table
	t.n.logFlow(msg, f.info())
	f.closeHost(reset)
	f.state, f.last = closed, t.n.now
	t.kernel.end(f.key)
	t.forget(f)
}

// closeKernel closes the container's end of a spliced flow.
func (f *tcpFlow) closeKernel(reset bool) {
	k := f.kernel
	if k == nil || k.fd < 0 {
		return
	}
	f.table.n.loop.Remove(k.fd, k.token)
	k.relay.Stop()
	if reset {
		resetClose(k.fd)
	} else {
		unix.Close(k.fd)
	}
	k.fd = -1
}
