// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/relay"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// tcpState is where a TCP flow stands.
//
//	connecting ──host connected──> shaking ──container's ACK──> open ──> closed
//	     │   └──────────────────> turning ──accepted────────────┘
//	     │                           └── not accepted: shaking
//	     └── host refused: RST or ICMP error to the container, closed
//
//	dialing ──container connected──> open            what came in at a published port
//	     └── container refused: RST to the host's peer, closed
type tcpState uint8

const (
	connecting tcpState = iota // the host connects; the SYN waits
	shaking                    // gVisor answers the container
	turning                    // the container's kernel is to answer itself
	dialing                    // the container is connected to
	open                       // bytes pass
	closed                     // ours is closed; gVisor may still say goodbye
)

func (s tcpState) String() string {
	return [...]string{"connecting", "handshake", "handshake", "connecting", "open", "closed"}[s]
}

// A tcpFlow is one TCP connection of the container's and its host socket. It is
// owned by the loop, except wq, which gVisor's goroutines use, and queued.
type tcpFlow struct {
	flow
	socket  string // path of the Unix socket that is the host's end; empty for TCP
	table   *tcpTable
	key     tuple
	state   tcpState
	service bool      // answered by us: no host socket
	by      *listener // of an inbound flow: the published port that it came by
	second  bool      // … it is its second try

	isn     uint32
	syn     []byte // the SYN, from its IP header on; nil once gVisor has it
	partial bool   // its checksum is left to the reader

	spliced  *splicedEnd // of a spliced flow
	excluded bool        // of a stacked one: from the rules of the spliced path
	early    loop.Events // of the host's socket, before the container's was there
	unmet    bool        // it was refused to meet the application

	fd       int
	token    loop.Token
	canRead  bool // edges not yet used up
	canWrite bool
	toEnd    bool // a short read does not mean that nothing is left
	bulk     bool // the last read was large
	cut      bool // the host's end takes no more; to be reset when it has sent all
	errored  bool // the socket has an error that nobody has looked at
	stash    []byte
	shorts   int // short writes to the container in a row

	throttled [2]bool // it waits for the bandwidth of that direction

	ep       tcpip.Endpoint
	wq       waiter.Queue
	entry    waiter.Entry
	queued   atomic.Bool // on the table's ready list
	upDone   bool        // container's FIN passed on
	downDone bool        // host's FIN passed on
	shared   bool        // has a share of the table's budget
	watched  bool        // keep-alives are on
	place    int         // in the table's list of those that close, from 1; 0 for none
}

// keepSYN keeps a copy of the SYN until the host has connected.
func (f *tcpFlow) keepSYN(isn uint32, l3, rest []byte) {
	f.isn = isn
	f.syn = append(append(f.syn[:0], l3...), rest...)
	f.partial = f.table.n.partial()
}

// connect starts the host's side.
func (f *tcpFlow) connect() {
	t := f.table
	fd, known, err := f.newSocket()
	if err != nil {
		t.n.noSocket(err)
		if p, ok := parsePacket(f.syn, nil); ok {
			t.n.report(&p, troubleOf(err)) // of Config.Outbound, which the host does not have
		}
		t.forget(f)
		return
	}
	f.fd = fd
	if !known {
		setHostOptions(fd)
	}
	f.connects()
	if errno := f.dialHost(); errno != 0 && errno != unix.EINPROGRESS {
		f.failed(errno)
		return
	}
	if f.token, err = t.n.watch(fd, known, f); err != nil {
		t.n.noSocket(err)
		f.failed(nil)
	}
}

// setHostOptions prepares a host socket. Errors are those of options that the
// kernel, or a Unix socket, lacks, without which the flow works as well.
func setHostOptions(fd int) {
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	// Urgent data arrives in line: the kernel would hold a byte of it back.
	_ = setOption(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
}

// watchSocket makes the kernel notice a peer that vanished.
func watchSocket(fd int) {
	_ = setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepaliveIdle/time.Second))
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepaliveInterval/time.Second))
	_ = setOption(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepaliveCount)
}

// Ready is called by the loop with the host socket's events.
func (f *tcpFlow) Ready(ev loop.Events) {
	if f.state == connecting {
		if ev&(loop.Error|loop.HangUp|loop.Writable) == 0 {
			return
		}
		if ev&(loop.Error|loop.HangUp) != 0 {
			// Else it is connected: a socket that failed to has one of them.
			if errno, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || errno != 0 {
				f.failed(unix.Errno(errno))
				return
			}
		}
		// What the host sends with its first packets comes with no other edge.
		f.note(ev)
		if f.table.kernel.takes(f) {
			f.turn()
			return
		}
		f.shake()
	}
	if f.spliced != nil && f.state != turning {
		f.spliced.relay.Note(relay.Host, ev)
		f.splice()
		return
	}
	f.note(ev)
	f.move()
}

// note takes down what the host's socket is ready for, for whoever carries the flow.
func (f *tcpFlow) note(ev loop.Events) {
	f.early |= ev
	if ev&(loop.Readable|loop.Urgent|loop.ReadHangUp|loop.HangUp|loop.Error) != 0 {
		f.canRead = true
	}
	if ev&(loop.Urgent|loop.ReadHangUp|loop.HangUp|loop.Error) != 0 {
		f.toEnd = true
	}
	if ev&(loop.Writable|loop.HangUp|loop.Error) != 0 {
		f.canWrite = true
	}
	if ev&loop.Error != 0 {
		f.errored = true
	}
}

// hostFailed reports whether the host's socket has an error to tell.
func (f *tcpFlow) hostFailed() bool {
	if !f.errored {
		return false
	}
	f.errored = false
	errno, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return err != nil || errno != 0
}

// failed tells the container why its connect did not work. A time-out it will
// notice by itself, at the same time as the host.
func (f *tcpFlow) failed(err error) {
	t := f.table
	f.connected()
	t.n.count.inc(connectsFailed)
	if err != nil {
		t.n.logFlow("connect failed", f.info, slog.String("err", err.Error()))
	}
	if p, ok := parsePacket(f.syn, nil); ok {
		switch err {
		case unix.ECONNREFUSED, unix.ECONNRESET:
			t.n.sendReset(&p)
		default:
			t.n.report(&p, troubleOf(err))
		}
	}
	f.closeHost(false)
	f.state = closed
	t.forget(f)
}

// shake gives the SYN to gVisor, which will call tcpTable.forwarded.
func (f *tcpFlow) shake() {
	t := f.table
	f.state, f.last = shaking, t.n.now
	t.mu.Lock()
	t.shaking[f.key] = f
	t.mu.Unlock()
	if !t.kernel.exclude(f) {
		f.answer()
	}
}

// answer has gVisor answer the SYN, or send one.
func (f *tcpFlow) answer() {
	switch f.state {
	case shaking:
	case dialing:
		f.dialStack()
		return
	default:
		return // ended since
	}
	syn := f.syn
	f.syn = nil
	f.table.n.inject(syn)
}

// accepted is called when gVisor's handshake with the container has ended.
func (f *tcpFlow) accepted(ep tcpip.Endpoint, err tcpip.Error) {
	t := f.table
	if f.state == shaking {
		f.connected()
	}
	if err != nil || f.state == closed || t.n.ctx.Err() != nil {
		if ep != nil {
			ep.Abort()
		}
		if f.state != closed {
			f.state = closed
			f.closeHost(true)
			t.forget(f)
		}
		return
	}
	f.state = open
	f.ep = ep
	t.admit(f)
	if f.service {
		t.linger(f)
		t.n.serveDNS(&f.wq, ep)
		return
	}
	f.entry.Init(f, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventHUp|waiter.EventErr)
	f.wq.EventRegister(&f.entry)
	t.n.logFlow("flow open", f.info)
	f.canWrite = true
	f.move()
}

// watch makes both kernels' ends of an open flow notice a peer that vanished. It
// is done for flows that live for a tick: most are over before, and would pay for
// timers that never expire.
func (f *tcpFlow) watch() {
	f.watched = true
	watchSocket(f.fd)
	if f.spliced != nil {
		// The container's end may be behind a bridge of its own.
		watchSocket(f.spliced.fd)
		return
	}
	watchContainer(f.ep)
}

// watchContainer makes gVisor notice a container's end that vanished.
func watchContainer(ep tcpip.Endpoint) {
	ep.SocketOptions().SetKeepAlive(true)
	idle, interval := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveInterval)
	_ = ep.SetSockOpt(&idle)
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
}

// NotifyEvent implements waiter.EventListener. gVisor calls it with the
// endpoint's lock held: it must only take note.
func (f *tcpFlow) NotifyEvent(waiter.EventMask) {
	if f.queued.CompareAndSwap(false, true) {
		f.table.notify(f)
	}
}

// finish closes a flow whose two directions have both ended. gVisor still tells us
// when it is done with it.
func (f *tcpFlow) finish() {
	f.ep.Close()
	f.end("flow closed", false)
}

// reset breaks the flow off: the host's peer gets a RST, and so does the
// container, unless it is who broke it off.
func (f *tcpFlow) reset() {
	f.wq.EventUnregister(&f.entry)
	f.ep.Abort()
	f.end("flow reset", true)
}

func (f *tcpFlow) end(msg string, reset bool) {
	t := f.table
	t.n.logFlow(msg, f.info)
	f.closeHost(reset)
	f.state, f.last = closed, t.n.now
	if lives(f.ep) {
		t.linger(f)
	} else {
		t.forget(f)
	}
}

// abort breaks off the flow in whatever state it is, without taking it out of the
// table.
func (f *tcpFlow) abort() {
	t := f.table
	switch f.state {
	case connecting:
		f.connected()
		f.closeHost(true)
	case turning:
		delete(t.kernel.turning, f.key)
		f.endMeeting()
		f.connected()
		f.closeHost(true)
	case shaking:
		f.connected()
		f.closeHost(true)
	case dialing:
		f.connected()
		f.closeDialed()
		f.closeHost(true)
	case open:
		if f.spliced != nil {
			f.abortSpliced()
			break
		}
		if !f.service {
			f.wq.EventUnregister(&f.entry)
		}
		// Where the container's FIN was passed on, it has been told that all is
		// well: a RST would take back what the host's kernel has not sent yet.
		f.closeHost(!f.upDone)
		f.ep.Abort()
	case closed:
		if f.ep != nil && lives(f.ep) {
			f.ep.Abort()
		}
	}
	f.state = closed
}

// closeHost closes the host socket, with a RST to its peer if so wished.
func (f *tcpFlow) closeHost(reset bool) {
	if f.fd < 0 {
		return
	}
	leave(f.table.n.loop, f.fd, f.token, reset, f.spare)
	f.fd, f.token = -1, 0
	f.stash = nil
}

func (f *tcpFlow) info() FlowInfo {
	path := PathStacked
	if f.spliced != nil {
		path = PathSpliced
	}
	i := f.flow.info(f.table.n.now, "tcp", path, f.state.String())
	if f.by != nil && f.fd >= 0 {
		i.Host = localAddr(f.fd)
	}
	i.HostSocket = f.socket
	if f.state == open && f.fd >= 0 {
		if ti, err := unix.GetsockoptTCPInfo(f.fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			i.RTT = time.Duration(ti.Rtt) * time.Microsecond
		}
	}
	return i
}
