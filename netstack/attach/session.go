// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/dns"
	"github.com/slipway-net/slipway/netstack/hostport"
	"github.com/slipway-net/slipway/netstack/policy"
	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/tap"
)

// ErrGone is returned by Run when the container's network namespace, or the tap
// in it, has gone.
var ErrGone = errors.New("the container's network is gone")

// ErrCapturing is returned by StartCapture while there is another capture.
var ErrCapturing = errors.New("a capture is under way already")

// A Config says which network namespace to attach, and what its traffic may do.
// Tap.Target and Tap.Plan are needed.
type Config struct {
	// Tap says where the tap is made, and how it is configured. Its Log is
	// replaced by Log.
	Tap tap.Config
	// Device is a tap that is open already, in place of one that New opens: of Tap
	// only Plan is used then. It is the Session's; who gets an error closes it, be it
	// closed already or not.
	Device *tap.Device
	// MTU is what the container's interface will have, in bytes, where the container
	// sets that after New; 0 means that of the tap.
	MTU int
	// Rules are the policy's, the first that matches wins.
	Rules []policy.Rule
	// HostLoopback lists the addresses, and perhaps ports, at which the container
	// reaches services on the host's loopback. Empty means that it reaches none.
	HostLoopback []policy.LoopbackAt
	// HostSockets lists the ports at which it reaches Unix sockets of the host.
	HostSockets []policy.SocketAt
	// Answers are given to what the policy refuses for a reason, in place of the
	// reason's own.
	Answers map[policy.Reason]policy.Answer
	// NoDNS leaves the plan's resolver address unanswered.
	NoDNS bool
	// MayLackDNS lets New succeed on a host whose /etc/resolv.conf names no
	// resolver, or cannot be read: then the one at 127.0.0.1 is asked.
	MayLackDNS bool
	// DNS lists resolvers to use in place of those in the host's
	// /etc/resolv.conf.
	DNS []netip.AddrPort
	// OwnNamespace says that the network namespace is the caller's own, and that nobody
	// is left in it when Close is called. What was made there is then left to the kernel,
	// which removes it with the namespace; to remove it first takes 10 to 40 ms.
	OwnNamespace bool
	// Unwatched goes on when what names the namespace is gone, as long as the tap is
	// there; see tap.Device.Watch.
	Unwatched bool
	// LocalNames, if not nil, has addresses of names that no resolver is asked for; see
	// dns.Config.
	LocalNames func(name string) []netip.Addr
	// Auto asks for what listens in the container to be published as it comes and goes;
	// nil means that nothing is.
	Auto *portfwd.Auto
	// Outbound says which address or interface of the host traffic leaves from.
	Outbound netstack.Outbound
	// Bandwidth bounds what is carried each way.
	Bandwidth netstack.Bandwidth
	// Without lists what the container is not to have.
	Without netstack.Without
	// NoSplice keeps TCP off the spliced path, which is otherwise used where the
	// container's kernel allows it.
	NoSplice bool
	// LateSplice has Run, or Confine before it, set the spliced path up, before anything is
	// carried, and not New:
	// for a caller who lets the container start meanwhile, whose first frames wait. It
	// takes a millisecond. Session.Path does not know then whether it can be done.
	LateSplice bool
	// HostPorts lists ports of the container's loopback that lead to the host's, at most
	// MaxHostPorts. They need a tap that New opens.
	HostPorts []HostPort
	// Publish lists the ports of the host that lead to the container from the start.
	Publish []portfwd.Rule
	// Version is the program's, as the API tells it.
	Version string
	// Log receives what happens. Nil discards it.
	Log *slog.Logger
}

// A Session is one attached network namespace: its tap, and the Network behind
// it. Make it with New, Run it, Close it.
type Session struct {
	cfg      Config
	log      *slog.Logger
	device   *tap.Device
	network  *netstack.Network
	dns      *dns.Forwarder
	hairpin  atomic.Pointer[splice.Hairpin] // nil where all TCP is stacked
	factory  *splice.Factory                // nil where TCP services at the container's loopback are out of reach
	loopback *netstack.Loopback             // the same for UDP
	// noLoopback says why, of a session whose tap is pinned.
	noLoopback struct{ tcp, udp error }
	late       sync.Once // of LateSplice
	capturing  atomic.Bool
	ports      *portfwd.Table
	follower   *portfwd.Follower // nil where nothing is followed
	hostPorts  *hostport.Server  // nil for none
	carries    context.Context   // until the loop runs no more
	ended      context.CancelFunc
	closing    sync.Once
	closed     error
}

// New enters the namespace, makes and configures the tap, and assembles the
// network behind it. Frames wait in the tap until Run. The errors are those of
// tap.Open, or of portfwd.Table.Add, or say what in the Config cannot be.
func New(cfg Config) (*Session, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Tap.Log = cfg.Log
	s := &Session{cfg: cfg, log: cfg.Log}
	rules, err := policy.New(policy.Config{
		Plan: cfg.Tap.Plan, Rules: cfg.Rules, HostLoopback: cfg.HostLoopback, HostSockets: cfg.HostSockets,
	})
	if err != nil {
		return nil, err
	}
	if err := checkSockets(cfg); err != nil {
		return nil, err
	}
	if !cfg.NoDNS {
		if err := checkDNS(cfg); err != nil && !cfg.MayLackDNS {
			return nil, err
		}
		if s.dns, err = newDNS(cfg); err != nil {
			return nil, err
		}
	}
	cfg.Tap.Inside = cfg.inside()
	if s.device = cfg.Device; s.device == nil {
		if s.device, err = tap.Open(cfg.Tap); err != nil {
			return nil, err
		}
		s.openInside()
	}
	if err := s.assemble(rules); err != nil {
		s.device.Close()
		return nil, err
	}
	if err := errors.Join(s.publish(), s.openHostPorts()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// assemble makes the network behind the tap.
func (s *Session) assemble(rules *policy.Policy) (err error) {
	cfg := s.cfg
	s.network, err = netstack.New(netstack.Config{
		TapFD:        s.device.FD(),
		Offload:      s.device.Offload(),
		ContainerMAC: s.device.MAC(),
		MTU:          cmp.Or(cfg.MTU, s.device.MTU()),
		Plan:         cfg.Tap.Plan,
		Policy:       rules,
		Answers:      cfg.Answers,
		DNS:          s.dns,
		Outbound:     cfg.Outbound,
		Bandwidth:    cfg.Bandwidth,
		Without:      cfg.Without,
		Hairpin:      s.hairpin.Load(),
		Factory:      s.factory,
		Loopback:     s.loopback,
		Log:          cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("set up network: %w", err)
	}
	return nil
}

// Run carries the traffic until ctx is done, and then returns nil, or until the
// namespace is gone, and then returns ErrGone. Flows are closed when it returns.
func (s *Session) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	var watchErr error
	// A caller that ends the namespace itself does not have to be told.
	if !s.cfg.OwnNamespace && !s.cfg.Unwatched {
		watch.Go(func() {
			// The watch ends before ctx only where the namespace is gone.
			if watchErr = s.device.Watch(ctx); watchErr != nil {
				cancel()
			}
		})
	}
	if ctx.Err() == nil {
		s.openLate()
	}
	watch.Go(func() { s.follow(ctx) })
	var leadErr error
	watch.Go(func() {
		if leadErr = s.leadHostPorts(ctx); leadErr != nil {
			cancel()
		}
	})
	err := s.network.Run(ctx)
	s.ended()
	cancel()
	watch.Wait()
	if errors.Is(err, netstack.ErrTapGone) || errors.Is(watchErr, tap.ErrGone) {
		return ErrGone
	}
	return errors.Join(err, watchErr, leadErr)
}

// Close gives back all that New took: the tap, and with it the container's
// interface, but see Config.OwnNamespace. It must not be called while Run runs; it may be called again.
func (s *Session) Close() error {
	s.closing.Do(func() {
		s.ended()
		s.ports.Close()
		s.closed = s.closeHostPorts()
		if h := s.hairpin.Load(); h != nil {
			s.closed = errors.Join(s.closed, h.Close())
		}
		closeDevice := s.device.Close
		if s.cfg.OwnNamespace {
			closeDevice = s.device.Abandon
		}
		s.closed = errors.Join(s.closed, s.network.Close(), closeDevice())
	})
	return s.closed
}

// Device returns the session's tap, which stays the session's to close.
func (s *Session) Device() *tap.Device { return s.device }

// Path returns the path that TCP flows are meant to take: netstack.PathSpliced
// where that was set up. The log says when it has proved to work.
func (s *Session) Path() string {
	if s.hairpin.Load() != nil {
		return netstack.PathSpliced
	}
	return netstack.PathStacked
}

// Flows returns what is under way, oldest first; see netstack.Network.Flows.
func (s *Session) Flows(ctx context.Context) []netstack.FlowInfo { return s.network.Flows(ctx) }

// Counters returns what was carried, dropped and refused so far, and last a gauge:
// how many goroutines the process has now.
func (s *Session) Counters() []netstack.Counter {
	return append(s.network.Counters(), netstack.Counter{Name: "goroutines", Value: s.goroutines()})
}

// goroutines is how many the process has now.
func (s *Session) goroutines() uint64 { return uint64(runtime.NumGoroutine()) }

// StartCapture writes the tap's frames to w; see netstack.Network.StartCapture. There
// is one capture at a time: while another is under way the error is ErrCapturing.
func (s *Session) StartCapture(w io.Writer) error {
	if !s.capturing.CompareAndSwap(false, true) {
		return ErrCapturing
	}
	if err := s.network.StartCapture(w); err != nil {
		s.capturing.Store(false)
		return err
	}
	return nil
}

// StopCapture ends the capture; see netstack.Network.StopCapture. Only who started it
// may call it.
func (s *Session) StopCapture() error {
	err := s.network.StopCapture()
	s.capturing.Store(false)
	return err
}

// Search returns the search domains of the host's resolver, for the resolv.conf of
// a container with this configuration.
func Search(cfg Config) []string {
	f, err := newDNS(cfg)
	if err != nil {
		return nil // New will say what is wrong
	}
	return f.Search()
}

// checkDNS refuses to start without a resolver: better now than at each query.
func checkDNS(cfg Config) error {
	if len(cfg.DNS) > 0 {
		return nil
	}
	if err := dns.CheckResolvConf(""); err != nil {
		return fmt.Errorf("no DNS for the container: %w: mend the file, give --dns ADDR, or go without by --dns none", err)
	}
	return nil
}

func newDNS(cfg Config) (*dns.Forwarder, error) {
	return dns.New(dns.Config{
		Upstream:   cfg.DNS,
		Local:      cfg.LocalNames,
		Control:    cfg.Outbound.ControlConn,
		LocalAddr4: cfg.Outbound.Addr4,
		LocalAddr6: cfg.Outbound.Addr6,
		Log:        cfg.Log,
	})
}
