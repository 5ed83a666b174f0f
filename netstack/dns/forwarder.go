// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Defaults of a Config.
const (
	DefaultResolvConf  = "/etc/resolv.conf"
	DefaultTimeout     = 2 * time.Second
	DefaultMaxInFlight = 256
)

const (
	// TotalTimeout bounds a query over all servers. It is a little less than
	// the 5 s after which glibc and musl ask again (resolv.conf(5)).
	TotalTimeout = 4500 * time.Millisecond
	// StatInterval is how long the servers are taken to be current.
	StatInterval = time.Second
	// penalty is how long a server that failed is asked last.
	penalty = 30 * time.Second
	// rounds is how often a server that does not answer is asked.
	rounds = 2
)

// A Config says where queries go. The zero Config is usable.
type Config struct {
	// ResolvConf is the file to read, default DefaultResolvConf. Symbolic
	// links are followed each time. Not used if there are Upstream servers.
	ResolvConf string
	// Upstream is the list of servers to use instead of a file's.
	Upstream []netip.AddrPort
	// Timeout is how long one server has for one query, default DefaultTimeout.
	Timeout time.Duration
	// MaxInFlight is how many queries may wait for answers at a time, default
	// DefaultMaxInFlight. Each holds one socket.
	MaxInFlight int
	// Local, if not nil, is asked first for the addresses of each name, which comes
	// without a dot at its end: where it returns any, no server is asked. It may be
	// called from any goroutine, and must not block.
	Local func(name string) []netip.Addr
	// Control is called for each socket before it is bound, as in net.Dialer. It
	// and the local addresses are not used for servers on the host's loopback,
	// which no outbound interface reaches.
	Control func(network, address string, c syscall.RawConn) error
	// LocalAddr4 and LocalAddr6 are the source addresses to use, if valid.
	LocalAddr4, LocalAddr6 netip.Addr
	// Log takes servers that fail and files that cannot be read. Default: none.
	Log *slog.Logger
}

// Stats counts queries since New.
type Stats struct {
	Queries    uint64 // handed to Exchange or Begin
	Answered   uint64 // answers of a server passed on, or of Config.Local
	Failed     uint64 // answered with SERVFAIL, since no server did
	Malformed  uint64 // not a query: answered with FORMERR or NOTIMP, or not at all
	Dropped    uint64 // over MaxInFlight, or TCP connections over MaxConns
	Mismatched uint64 // answers thrown away: wrong id or question
	Failovers  uint64 // attempts at a server that failed
	Reloads    uint64 // resolv.conf read again
}

// A Forwarder answers queries. It is safe for concurrent use and holds no
// goroutine, socket or file while no query is in flight. Make one with New.
type Forwarder struct {
	cfg      Config
	log      *slog.Logger
	now      func() time.Time
	inFlight chan struct{}
	conns    chan struct{}
	stats    counters

	mu       sync.Mutex
	conf     resolvConf
	file     fileState
	useless  bool // the file named no server when last read
	statted  time.Time
	badUntil map[path]time.Time
}

// A path is one way to ask: a server over one transport.
type path struct {
	server netip.AddrPort
	tcp    bool
}

type counters struct {
	queries, answered, failed, malformed, dropped, mismatched, failovers, reloads atomic.Uint64
}

// New returns a Forwarder. A resolv.conf that cannot be read is no error: as
// resolv.conf(5) has it, the resolver is then the one on the host itself.
func New(c Config) (*Forwarder, error) {
	if c.ResolvConf == "" {
		c.ResolvConf = DefaultResolvConf
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.Timeout < 0 || c.MaxInFlight < 0 {
		return nil, fmt.Errorf("set up dns: the timeout and the number of queries must be positive")
	}
	c.Upstream = slices.Clone(c.Upstream)
	for _, s := range c.Upstream {
		if !s.IsValid() || s.Port() == 0 {
			return nil, fmt.Errorf("set up dns: server %s is not ADDRESS:PORT", s)
		}
	}
	f := &Forwarder{
		cfg:      c,
		log:      c.Log,
		now:      time.Now,
		inFlight: make(chan struct{}, c.MaxInFlight),
		conns:    make(chan struct{}, MaxConns),
		badUntil: make(map[path]time.Time),
		conf:     resolvConf{servers: c.Upstream},
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	f.refresh()
	return f, nil
}

// Exchange answers one query, a DNS message without length prefix, asking the
// servers over TCP if it came so. The answer is the caller's. It is nil where the
// container is to get no answer: the query is garbage, too many are in flight, or
// ctx has ended. Exchange keeps nothing of query.
func (f *Forwarder) Exchange(ctx context.Context, query []byte, overTCP bool) []byte {
	answer, ok := f.admit(query)
	if !ok {
		return answer
	}
	defer func() { <-f.inFlight }()
	h := hunt{tcp: overTCP, servers: f.order(overTCP)}
	return f.finish(ctx, query, &h, time.Now())
}

// Search returns the host's search domains, in order, as resolv.conf gives them
// in its last search or domain line; none with Config.Upstream.
func (f *Forwarder) Search() []string {
	f.refresh()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.conf.search)
}

// Stats returns the counters.
func (f *Forwarder) Stats() Stats {
	return Stats{
		Queries:    f.stats.queries.Load(),
		Answered:   f.stats.answered.Load(),
		Failed:     f.stats.failed.Load(),
		Malformed:  f.stats.malformed.Load(),
		Dropped:    f.stats.dropped.Load(),
		Mismatched: f.stats.mismatched.Load(),
		Failovers:  f.stats.failovers.Load(),
		Reloads:    f.stats.reloads.Load(),
	}
}

// admit takes in a query, and with it one of the places in flight, which the
// caller gives back. Otherwise ok is false, and answer what there is to say to
// such a query, if anything.
func (f *Forwarder) admit(query []byte) (answer []byte, ok bool) {
	f.stats.queries.Add(1)
	if !isQuery(query) {
		f.stats.malformed.Add(1)
		return nil, false
	}
	if _, ok := question(query); !ok {
		f.stats.malformed.Add(1)
		return failure(query, rcodeFormErr), false
	}
	if flags(query)&maskOpcode != 0 {
		// An update or a transfer's notice, coming from the host itself, might be
		// trusted by a server there.
		f.stats.malformed.Add(1)
		return failure(query, rcodeNotImp), false
	}
	if b := f.known(query); b != nil {
		f.stats.answered.Add(1)
		return b, false
	}
	select {
	case f.inFlight <- struct{}{}:
		return nil, true
	default:
		f.stats.dropped.Add(1)
		return nil, false
	}
}
