// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/slipway-net/slipway/netstack/dhcp"
	"github.com/slipway-net/slipway/netstack/dns"
	"github.com/slipway-net/slipway/netstack/frag"
	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/netstack/neighbor"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ErrTapGone is returned by Run when the tap no longer exists: its network
// namespace died, or somebody deleted it.
var ErrTapGone = errors.New("the tap is gone")

// Config says what a Network carries, and how. TapFD, MTU, Plan, Policy and Log
// are needed.
type Config struct {
	// TapFD is the tap, non-blocking. It stays the caller's to close.
	TapFD int
	// Offload is what the kernel granted on the tap.
	Offload tap.Offload
	// ContainerMAC is the hardware address of the tap, to which the first frames
	// go; later ones go where the container's frames come from. Nil means
	// broadcast until then.
	ContainerMAC net.HardwareAddr
	// MTU of the tap in bytes.
	MTU int
	// Plan says which addresses are ours and which is the container's.
	Plan tap.Plan
	// Policy is asked before any dial. What of the host it serves the container
	// answers pings and neighbour discovery, too.
	Policy *policy.Policy
	// Answers are given to what the policy refuses for a reason, in place of the
	// reason's own.
	Answers map[policy.Reason]policy.Answer
	// DNS answers what is sent to the plan's resolver address; nil means that
	// nobody answers there.
	DNS *dns.Forwarder
	// Outbound says which address or interface of the host flows leave from.
	Outbound Outbound
	// Hairpin makes the spliced path; nil means that all TCP is stacked. It stays
	// the caller's to close.
	Hairpin *splice.Hairpin
	// Factory makes the container's end of spliced inbound connections; nil means that
	// they are stacked, and that the container's loopback is out of reach. It stays the
	// caller's.
	Factory *splice.Factory
	// Loopback reaches UDP services at the container's loopback; nil means that they
	// are out of reach. It stays the caller's.
	Loopback *Loopback
	// Bandwidth bounds what is carried each way.
	Bandwidth Bandwidth
	// Without lists what the container is not to have.
	Without Without
	// MaxFlows bounds the flows of each kind; 0 means DefaultMaxFlows.
	MaxFlows int
	Log      *slog.Logger
}

// DefaultMaxFlows is how many TCP connections, and how many UDP flows, a Network
// carries at once. Each has one descriptor of the host.
const DefaultMaxFlows = 16384

// A Network carries the traffic between one tap and the sockets of the host.
// Make it with New, Run it, and Close it when Run has returned.
type Network struct {
	cfg   Config
	log   *slog.Logger
	loop  *loop.Loop
	link  *link
	stack *stack.Stack
	count counters

	// What follows is owned by the loop.

	rx         rx
	emit       emitter
	tapToken   loop.Token
	now        time.Duration // since start, of this turn; coarse
	start      time.Time
	flowIDs    uint64
	tcp        tcpTable
	udp        udpTable
	ping       pingTable
	dns        dnsTable
	inbound    inboundTable
	throttles  [2]throttle // by the end that the bytes come from
	pending    udpSender
	recv       *udpReceiver
	frags      *frag.Reassembler
	neighbor   *neighbor.Responder
	dhcp       *dhcp.Server
	batch      int           // how many frames this turn may read
	frameLen   int           // of the frame in rx
	flat       []byte        // room for what must be in one piece
	fatal      error         // why Run ends by itself
	complained time.Duration // when the log last heard of missing sockets
	evictions  int           // of mappings since the last tick
	stop       context.CancelFunc

	services sync.WaitGroup // goroutines that answer DNS
	ctx      context.Context
	closing  sync.Once
}

// New makes a Network on the tap. It starts nothing; frames wait in the tap
// until Run.
func New(cfg Config) (*Network, error) {
	if cfg.MaxFlows == 0 {
		cfg.MaxFlows = DefaultMaxFlows
	}
	n := &Network{cfg: cfg, log: cfg.Log, start: time.Now(), batch: 1}
	var err error
	if n.loop, err = loop.New(); err != nil {
		return nil, err
	}
	n.link = &link{
		fd:      cfg.TapFD,
		mtu:     uint32(cfg.MTU),
		offload: cfg.Offload,
		mac:     [6]byte(cfg.Plan.GatewayMAC()),
		count:   &n.count,
	}
	n.link.peer.Store(1<<48 - 1)
	if len(cfg.ContainerMAC) == len(n.link.mac) {
		n.link.peer.Store(macBits(cfg.ContainerMAC))
	}
	n.loop.AtStart(n.setNow)
	n.loop.AtEnd(n.endTurn)
	n.loop.BeforePark(func() { n.link.acks.release(n.writeAck) })
	n.emit.link = n.link
	n.pending.n = n
	n.tcp.init(n)
	n.udp.init(n)
	n.ping.init(n)
	n.dns.init(n)
	n.inbound.init(n)
	n.initThrottles()
	if err := n.initServices(); err != nil {
		n.loop.Close()
		return nil, err
	}
	if n.stack, err = newStack(n.link, n.tcp.forwarded); err != nil {
		n.loop.Close()
		return nil, fmt.Errorf("assemble TCP/IP stack: %w", err)
	}
	return n, nil
}

// initServices makes what answers the container on the link itself.
func (n *Network) initServices() error {
	var err error
	var search []string
	if n.cfg.DNS != nil {
		search = n.cfg.DNS.Search()
	}
	n.frags = frag.New()
	n.neighbor, err = neighbor.New(neighbor.Config{
		Plan:   n.cfg.Plan,
		MAC:    n.cfg.Plan.GatewayMAC(),
		MTU:    n.cfg.MTU,
		RDNSS:  n.cfg.DNS != nil,
		Search: search,
		Extra:  n.cfg.Policy.Served(),
		NoRA:   n.cfg.Without.RA,
	})
	if err != nil {
		return fmt.Errorf("set up neighbor discovery: %w", err)
	}
	n.dhcp, err = dhcp.New(dhcp.Config{
		Plan:      n.cfg.Plan,
		MTU:       n.cfg.MTU,
		ServerMAC: n.cfg.Plan.GatewayMAC(),
		DNS:       n.cfg.DNS != nil,
		Search:    search,
		Log:       n.log,
	})
	if err != nil {
		return fmt.Errorf("set up DHCP: %w", err)
	}
	return nil
}

// UseHairpin has the Network make the spliced path by h, as Config.Hairpin does, for
// which there was none at New. It must be called before Run.
func (n *Network) UseHairpin(h *splice.Hairpin) { n.tcp.kernel.hairpin = h }

// Run carries traffic until ctx is done, and then returns nil, or until the tap
// is gone, and then returns ErrTapGone. When it has returned, every flow is
// closed, and no goroutine of the Network is left.
func (n *Network) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.ctx, n.stop = ctx, cancel
	var err error
	if n.tapToken, err = n.loop.Add(n.cfg.TapFD, loop.Readable, loop.HandlerFunc(n.tapReady)); err != nil {
		return fmt.Errorf("watch tap: %w", err)
	}
	if err := n.tcp.kernel.start(); err != nil {
		return fmt.Errorf("watch listeners: %w", err)
	}
	var ticker sync.WaitGroup
	ticker.Go(func() { n.tick(ctx) })
	err = n.loop.Run(ctx)
	cancel()
	ticker.Wait()
	n.shutdown()
	return errors.Join(err, n.fatal)
}

// Close gives back what New took. It must not be called while Run runs; it may
// be called again.
func (n *Network) Close() error {
	n.closing.Do(func() {
		n.inbound.closeAll() // what was published and never served
		n.stack.Destroy()
		n.loop.Close()
		n.link.setCapture(nil)
	})
	return nil
}

// fail ends Run with err.
func (n *Network) fail(err error) {
	if n.fatal == nil {
		n.fatal = err
	}
	n.stop()
}

const (
	// tickEvery is how often timers are looked at: the resolution of all of them.
	tickEvery = time.Second
	// advertEvery is the time between unsolicited router advertisements,
	// MaxRtrAdvInterval of RFC 4861 §6.2.1.
	advertEvery = 600 * time.Second
)

// tick looks after the timers until ctx is done.
func (n *Network) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	advert := time.NewTicker(advertEvery)
	defer advert.Stop()
	n.loop.Post(n.advertise)
	for {
		select {
		case <-ctx.Done():
			return
		case <-advert.C:
			n.loop.Post(n.advertise)
		case <-t.C:
			n.loop.Post(n.expire)
		}
	}
}

// expire ends what was idle for too long.
func (n *Network) expire() {
	n.setNow()
	n.evictions = 0
	n.udp.expire()
	n.ping.expire()
	n.tcp.expire()
	n.inbound.retry()
	n.inbound.udp.expire()
	n.frags.Expire(n.start.Add(n.now))
}

// maxEvictions is how many mappings may be replaced in one tick. To close a socket
// and make another costs ten times what a datagram does: a container that sends
// each from another port would leave no time for its other traffic.
const maxEvictions = 1024

// evict counts, and reports whether a mapping may now make room for another.
func (n *Network) evict() bool {
	if n.evictions >= maxEvictions {
		n.count.inc(dropFlowLimit)
		return false
	}
	n.evictions++
	n.count.inc(flowsEvicted)
	return true
}

// setNow refreshes the loop's clock.
func (n *Network) setNow() { n.now = time.Since(n.start) }

// shutdown closes every flow. The loop no longer runs, so that what it owns is
// ours.
func (n *Network) shutdown() {
	n.loop.Remove(n.cfg.TapFD, n.tapToken)
	n.stopThrottles()
	n.pending.flush()
	n.link.acks.release(n.writeAck)
	n.inbound.closeAll()
	n.tcp.closeAll()
	n.udp.closeAll()
	n.ping.closeAll()
	n.dns.closeAll()
	n.services.Wait()
}

// tapReady reads what the container sent, a batch at a time so that sockets get
// their turn. The batch grows while frames come faster than turns, and shrinks to
// one where each is waited for: then the read that finds no more is not made.
func (n *Network) tapReady(ev loop.Events) {
	read := 0
	for read < n.batch {
		size, errno := n.link.read(&n.rx)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			if errno != unix.EAGAIN {
				n.fail(fmt.Errorf("read from tap: %w: %w", errno, ErrTapGone))
			}
			break
		}
		if size == 0 { // the end of a socket in the place of a tap; no frame is empty
			n.fail(ErrTapGone)
			break
		}
		read++
		n.ingress(size)
	}
	switch {
	case read < n.batch:
		n.batch = max(1, read)
	case n.loop.Busy():
		n.batch = min(2*n.batch, tapBatch)
	}
	n.pending.flush()
	if ev&loop.Error != 0 {
		n.fail(ErrTapGone)
	}
}

// endTurn writes what was held back during turns of the loop.
func (n *Network) endTurn() {
	if n.link.acks.holding.Load() {
		n.setNow()
		n.link.acks.endTurn(n.now, n.writeAck)
	}
}

// writeAck writes an acknowledgment that was held back.
func (n *Network) writeAck(pkt *stack.PacketBuffer) { n.link.writePacket(pkt) }

// tapBatch is how many frames are read in one turn of the loop at the most.
const tapBatch = 64
