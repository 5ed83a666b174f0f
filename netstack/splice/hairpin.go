// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// A Tuple names a TCP connection of the container's by its two ends.
type Tuple struct {
	Container netip.AddrPort // the container's own
	Remote    netip.AddrPort // what it dialed
}

// ErrUnavailable is matched, by errors.Is, by the errors of New that say that the
// container's network namespace, its kernel or our rights do not allow a Hairpin.
var ErrUnavailable = errors.New("the spliced path is not available")

// The order of what Inside asks for.
const (
	sockNetfilter = iota
	sockRoute
	sockListen4
	sockListen6
	sockProbe4
	sockProbe6
	sockFactory4
	sockFactory6
	sockSeed4
	sockSeed6
	sockCount
)

// settingMarks is the place of the one setting that all works without: the last.
const settingMarks = 2

const (
	fileForward4 = iota
	fileForward6
	filePorts
)

// Inside returns what must be made in the container for a Hairpin on the tap of
// that name, and for a Factory. Its result, tap.Opened, goes into New and NewFactory.
func Inside(ifname string) tap.Inside {
	conf := "net/ipv4/conf/" + ifname + "/"
	stream := unix.SOCK_STREAM
	in := tap.Inside{
		Settings: []tap.Setting{
			// The SYN that we write back comes from the container's own address.
			{Path: conf + "accept_local", Value: "1"},
			// Loosely: such an address is routed by lo (fib_validate_source of
			// net/ipv4/fib_frontend.c). The larger of this and "all" holds.
			{Path: conf + "rp_filter", Value: "2"},
			// What answers a Factory's SYN, which has our mark, has it too, so that its
			// routes are by lo from the start and no rule has to turn each packet round.
			// Of both families; where it cannot be set, the rule does.
			settingMarks: {Path: "net/ipv4/tcp_fwmark_accept", Value: "1"},
		},
		Files:   []string{fileForward4: "net/ipv4/ip_forward", fileForward6: "net/ipv6/conf/all/forwarding", filePorts: "net/ipv4/ip_local_port_range"},
		Sockets: make([]tap.Socket, sockCount),
	}
	in.Sockets[sockNetfilter] = tap.Socket{Domain: unix.AF_NETLINK, Type: unix.SOCK_RAW, Protocol: unix.NETLINK_NETFILTER}
	in.Sockets[sockRoute] = tap.Socket{Domain: unix.AF_NETLINK, Type: unix.SOCK_RAW, Protocol: unix.NETLINK_ROUTE}
	for _, i := range []int{sockListen4, sockProbe4, sockFactory4, sockSeed4} {
		in.Sockets[i] = tap.Socket{Domain: unix.AF_INET, Type: stream}
		in.Sockets[i+1] = tap.Socket{Domain: unix.AF_INET6, Type: stream}
	}
	return in
}

// A Hairpin is what makes the container's kernel turn a connection, whose SYN is
// written back into the tap, round to a listener of ours: see the package's
// documentation. Make it with New and Close it; the descriptors stay their
// owner's. It is for one goroutine at a time.
type Hairpin struct {
	life      Lifetime
	nft       conn
	route     conn
	listeners [len(families)]int // descriptors; -1 where the family is not there
	probes    [len(families)]int
	forward   [len(families)]int
	tables    [len(families)]*table // nil where the family is not there
	// forwarding: the rules for what the container forwards are there.
	forwarding bool
	// tracks: rules cannot keep packets from conntrack. There may be no conntrack.
	tracks bool
}

// A Lifetime says when what a Hairpin has made in the container goes.
type Lifetime int

const (
	// UntilClose: with Close, or with our process, however that ends.
	UntilClose Lifetime = iota
	// UntilNamespace: with the container's network namespace, which is the caller's and
	// ends with the Hairpin. Close then waits for nothing; to remove nftables' tables
	// takes the kernel 5 to 20 ms (an RCU grace period). Where the kernel is older than
	// Linux 6.9 it is UntilClose.
	UntilNamespace
)

// New sets up, in the container, what Inside has opened there. At least one family
// works if it returns no error. Errors match ErrUnavailable.
func New(ifname string, in tap.Opened, life Lifetime) (*Hairpin, error) {
	h, err := newHairpin(ifname, in, life)
	if errors.Is(err, unix.EOPNOTSUPP) && life == UntilNamespace {
		h, err = newHairpin(ifname, in, UntilClose)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return h, nil
}

func newHairpin(ifname string, in tap.Opened, life Lifetime) (*Hairpin, error) {
	if len(in.Sockets) != sockCount {
		return nil, errors.New("nothing was opened in the container for it")
	}
	for _, i := range []int{sockNetfilter, sockRoute, sockListen4} {
		if err := in.Sockets[i].Err; err != nil {
			return nil, err
		}
	}
	if err := errors.Join(in.Settings[:min(settingMarks, len(in.Settings))]...); err != nil {
		return nil, err
	}
	h := &Hairpin{
		life:      life,
		nft:       conn{fd: in.Sockets[sockNetfilter].FD, table: nftTableFlagOwner},
		route:     conn{fd: in.Sockets[sockRoute].FD},
		listeners: [...]int{in.Sockets[sockListen4].FD, in.Sockets[sockListen6].FD},
		probes:    [...]int{in.Sockets[sockProbe4].FD, in.Sockets[sockProbe6].FD},
		forward:   [...]int{in.Files[fileForward4].FD, in.Files[fileForward6].FD},
	}
	if life == UntilNamespace {
		h.nft.table |= nftTableFlagPersist
	}
	if err := errors.Join(h.nft.open(), h.route.open()); err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(ifname)
	if err != nil {
		return nil, fmt.Errorf("find %q: %w", ifname, err)
	}
	if err := unix.IoctlIfreq(h.listeners[0], unix.SIOCGIFINDEX, ifr); err != nil {
		return nil, fmt.Errorf("find %q: %w", ifname, err)
	}
	for i, f := range families {
		if h.tables[i], err = f.prepare(h.listeners[i], ifname, ifr.Uint32()); err != nil && f.domain == unix.AF_INET {
			return nil, err
		}
	}
	for i, t := range h.tables {
		if t == nil {
			continue
		}
		if err := h.install(t, nil); err != nil {
			if i == 0 {
				return nil, errors.Join(err, h.Close())
			}
			h.tables[i] = nil
			if !h.shared(t) {
				_ = t.delRoutes(&h.route) // what could be made of them
			}
		}
	}
	return h, nil
}

// prepare makes the socket a listener and describes the table to go with it.
func (f family) prepare(listener int, ifname string, ifindex uint32) (*table, error) {
	if err := f.listenOn(listener, f.listen); err != nil {
		return nil, err
	}
	sa, err := unix.Getsockname(listener)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	return f.newTable(ifname, ifindex, addrPortOf(sa).Port()), nil
}

// Install makes the rules and routes, in place of any that are there; the flows are
// those that are excluded. One family may fail without the other.
func (h *Hairpin) Install(flows []Tuple) error {
	var errs []error
	for i, t := range h.tables {
		if t != nil {
			errs = append(errs, h.install(t, elements(flows)[i]))
		}
	}
	return errors.Join(errs...)
}

func (h *Hairpin) install(t *table, flows []nftables.SetElement) error {
	if err := t.addRoutes(&h.route); err != nil {
		return err
	}
	err := h.make(t, flows)
	if err != nil && t.fresh {
		// Somebody else's, which cannot become ours; perhaps there is none.
		_ = h.change(func(cc *nftables.Conn) error {
			cc.DelTable(t.Table)
			return nil
		})
		err = h.make(t, flows)
	}
	if err != nil && !h.tracks {
		h.tracks = true
		err = h.make(t, flows)
	}
	if err != nil {
		return fmt.Errorf("make nftables table %q: %w", t.Name, err)
	}
	t.fresh = false
	return nil
}

// make makes the table anew. There must be no moment at which its rules hold and a flow
// that is excluded is not in the set: the kernel would answer that with a RST. Where the
// flows do not go into one transaction, there are no rules until all are in.
func (h *Hairpin) make(t *table, flows []nftables.SetElement) error {
	h.nft.fresh = t.fresh
	defer func() { h.nft.fresh = false }()
	chunks := slices.Collect(slices.Chunk(flows, maxElements))
	if len(chunks) <= 1 {
		return h.change(func(cc *nftables.Conn) error {
			err := t.build(cc)
			for _, some := range chunks {
				err = errors.Join(err, cc.SetAddElements(t.set, some))
			}
			h.addRules(t, cc)
			return err
		})
	}
	if err := h.change(t.build); err != nil {
		return err
	}
	for _, some := range chunks {
		if err := h.change(func(cc *nftables.Conn) error { return cc.SetAddElements(t.set, some) }); err != nil {
			return fmt.Errorf("exclude %d flows: %w", len(some), err)
		}
	}
	return h.change(func(cc *nftables.Conn) error {
		h.addRules(t, cc)
		return nil
	})
}

// addRules adds to cc the rules of the table.
func (h *Hairpin) addRules(t *table, cc *nftables.Conn) {
	t.rules(cc, !h.tracks)
	if h.forwarding {
		t.forward(cc)
	}
}

// change makes a transaction of what f describes.
func (h *Hairpin) change(f func(*nftables.Conn) error) error {
	cc, err := h.nft.ruleset()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	if err := f(cc); err != nil {
		return fmt.Errorf("describe change: %w", err)
	}
	return cc.Flush()
}

// Listeners returns the descriptors of the listeners, for IPv4 and IPv6, -1 where
// there is none. What is accepted there has the options of listenOn.
func (h *Hairpin) Listeners() [2]int {
	fds := h.listeners
	for i, t := range h.tables {
		if t == nil {
			fds[i] = -1
		}
	}
	return fds
}

// Close takes rules and routes away, but for those that another session in the namespace
// has a use for, too. The tap may be gone by then, and its namespace with it.
func (h *Hairpin) Close() error {
	if h.life == UntilNamespace {
		return nil
	}
	var errs []error
	for _, t := range h.tables {
		if t == nil {
			continue
		}
		cc, err := h.nft.ruleset()
		if err != nil {
			return fmt.Errorf("open nftables: %w", err)
		}
		cc.DelTable(t.Table)
		if err := cc.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete nftables table %q: %w", t.Name, err))
		}
		if !h.shared(t) {
			errs = append(errs, t.delRoutes(&h.route))
		}
	}
	return errors.Join(errs...)
}

// shared reports whether there is another session's table.
func (h *Hairpin) shared(t *table) bool {
	names, err := h.nft.tables(uint8(t.Family))
	return err == nil && slices.ContainsFunc(names, func(name string) bool {
		return name != t.Name && strings.HasPrefix(name, tablePrefix)
	})
}

// maxElements is how many tuples go into one message, whose attributes may have
// 64 KiB.
const maxElements = 512

// Exclude has flows leave by the tap, as if there were no rules. It is for those
// that are stacked, and must come before the container is answered.
func (h *Hairpin) Exclude(flows []Tuple) error {
	return h.each(flows, func(cc *nftables.Conn, set *nftables.Set, some []nftables.SetElement) error {
		return cc.SetAddElements(set, some)
	})
}

// Include ends that for flows that have ended. Some may never have got in: to delete
// those would fail, and the whole transaction with them, for which the kernel waits
// for all its processors (nf_tables_abort). So they are added first.
func (h *Hairpin) Include(flows []Tuple) error {
	return h.each(flows, func(cc *nftables.Conn, set *nftables.Set, some []nftables.SetElement) error {
		return errors.Join(cc.SetAddElements(set, some), cc.SetDeleteElements(set, some))
	})
}

// each makes transactions of what change describes of the flows' elements.
func (h *Hairpin) each(flows []Tuple, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	for i, elems := range elements(flows) {
		t := h.tables[i]
		if t == nil {
			continue
		}
		for some := range slices.Chunk(elems, maxElements) {
			if err := h.change(func(cc *nftables.Conn) error { return change(cc, t.set, some) }); err != nil {
				return fmt.Errorf("change the set of %d flows in nftables: %w", len(some), err)
			}
		}
	}
	return nil
}

// elements sorts flows by family.
func elements(flows []Tuple) [len(families)][]nftables.SetElement {
	var out [len(families)][]nftables.SetElement
	for _, t := range flows {
		i := FamilyOf(t.Container.Addr())
		out[i] = append(out[i], nftables.SetElement{Key: t.key()})
	}
	return out
}

// FamilyOf numbers the address's family as a Hairpin's methods take and return it: 0
// for IPv4, 1 for IPv6.
func FamilyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Forwards reports whether the container forwards packets of the address's
// family: then not all that comes out of the tap is of its own sockets.
func (h *Hairpin) Forwards(a netip.Addr) bool {
	var b [1]byte
	n, err := unix.Pread(h.forward[FamilyOf(a)], b[:], 0)
	return err != nil || n != 1 || b[0] != '0'
}

// Forward makes the rules for what the container forwards, unless they are there.
// It needs conntrack in the container's kernel.
func (h *Hairpin) Forward() error {
	if h.forwarding {
		return nil
	}
	if h.tracks {
		return errors.New("the kernel cannot keep packets from conntrack")
	}
	err := h.change(func(cc *nftables.Conn) error {
		for _, t := range h.tables {
			if t != nil {
				t.forward(cc)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("add rules for forwarded flows: %w", err)
	}
	h.forwarding = true
	return nil
}
