// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// drawing is the picture of what newTopology builds; it heads the printed report.
const drawing = `
  user namespace that maps one plain user only
 ┌─────────────────────────────────────────────────┐ ┌─────────────────────┐
 │ network namespace "host"                        │ │ namespace "peer"    │
 │  ┌────────────────────────┐                     │ │                     │
 │  │ container, unshare     │   the subject:      │ │  endpoint           │
 │  │ -Urn: own user and     │   a helper with     │ │  (TCP, UDP, echo,   │
 │  │ network namespace      │   no capability     │ │   DNS)              │
 │  │  endpoint ─────── tap ─┼─────┘ └── sockets ──┼─┼── veth, MTU 1500    │
 │  └────────────────────────┘       10.97.0.1/24  │ │   10.97.0.2/24      │
 │  direct: endpoint here, no container fd97::1/64 │ │   fd97::2/64        │
 │  publish/loopback: the client is here           │ │  publish/remote:    │
 │                                                 │ │   the client is here│
 └─────────────────────────────────────────────────┘ └─────────────────────┘
  up: container to peer     down: peer to container, over a connection or flow
                            that the container opened; where a port of it is
                            published on the host, that the client opened
  loopback/…: the server listens at 127.0.0.1 in "host", not in "peer"

  longpath: two taps take the place of the veth, and between them
  the bench itself holds each frame, 100 ms there and back:
   host ── tap ── relay: 50 ms ──► ── tap ── peer
                  ◄── relay: 50 ms
`

// Names and addresses of the two ends of the veth pair.
const (
	hostLink  = "host0"
	peerLink  = "peer0"
	hostAddr4 = "10.97.0.1"
	peerAddr4 = "10.97.0.2"
	hostAddr6 = "fd97::1"
	peerAddr6 = "fd97::2"
	plen4     = 24
	plen6     = 64
	vethMTU   = 1500 // bytes
)

// A topology is the network in which one step runs: two namespaces and the places
// from which to start processes in them without capabilities. It is made anew for
// every step, since what a step leaves behind (a hundred thousand connections in
// TIME_WAIT, learned routes and metrics) would slow down the next.
type topology struct {
	hostAdmin, peerAdmin *place // with the stage's capabilities
	host, peer           *place // as the plain user
	relay                *relay // nil where the path has no delay
	// resolvErr says why processes in host do not have the bench's resolv.conf.
	resolvErr error
}

// A topologyConfig says what differs between steps.
type topologyConfig struct {
	Congestion string        // TCP congestion control of new sockets
	Delay      time.Duration // of each frame between host and peer, one way; 0 for none
}

// newTopology builds the network. The process must have CAP_NET_ADMIN and
// CAP_SYS_ADMIN in its user namespace. Close takes the network down.
func newTopology(cfg topologyConfig) (*topology, error) {
	t := &topology{hostAdmin: newPlace(), peerAdmin: newPlace(), host: newPlace(), peer: newPlace()}
	if err := t.build(cfg); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// peerAddr returns the peer's address of the family, 4 or 6.
func peerAddr(family int) netip.Addr {
	if family == 6 {
		return netip.MustParseAddr(peerAddr6)
	}
	return netip.MustParseAddr(peerAddr4)
}

// relayed returns what the relay did, and an error where it, or a queue before it,
// lost frames: then the path was not what it was to be.
func (t *topology) relayed() (RelayStats, error) {
	if t.relay == nil {
		return RelayStats{}, nil
	}
	s := t.relay.stats()
	for _, end := range []struct {
		admin *place
		name  string
	}{{t.hostAdmin, hostLink}, {t.peerAdmin, peerLink}} {
		err := end.admin.do(func() error {
			link, err := netlink.LinkByName(end.name)
			if err != nil {
				return fmt.Errorf("read what %q dropped: %w", end.name, err)
			}
			if c := link.Attrs().Statistics; c != nil {
				s.Dropped += int64(c.TxDropped)
			}
			return nil
		})
		if err != nil {
			return s, err
		}
	}
	if s.Dropped > 0 {
		return s, fmt.Errorf("the long path lost %d of %d frames", s.Dropped, s.Frames)
	}
	return s, nil
}

// close ends the places and, with them, every process that was started in them.
func (t *topology) close() {
	if t.relay != nil {
		t.relay.close()
	}
	for _, p := range []*place{t.host, t.peer, t.hostAdmin, t.peerAdmin} {
		p.close()
	}
}

func (t *topology) build(cfg topologyConfig) error {
	hostNS, err := splitOff(t.hostAdmin, t.host, func() { t.resolvErr = ownResolvConf(peerAddr4) })
	if err != nil {
		return fmt.Errorf("make the host's network namespace: %w", err)
	}
	defer unix.Close(hostNS)
	peerNS, err := splitOff(t.peerAdmin, t.peer, func() {})
	if err != nil {
		return fmt.Errorf("make the peer's network namespace: %w", err)
	}
	defer unix.Close(peerNS)
	if err := t.join(peerNS, cfg.Delay); err != nil {
		return err
	}
	err = t.hostAdmin.do(func() error {
		if err := configure(hostLink, []string{hostAddr4, hostAddr6}, []string{peerAddr4, peerAddr6}); err != nil {
			return err
		}
		return allowPing()
	})
	if err != nil {
		return err
	}
	err = t.peerAdmin.do(func() error {
		if err := configure(peerLink, []string{peerAddr4, peerAddr6}, nil); err != nil {
			return err
		}
		// The peer's resolver runs as the plain user, and listens on port 53.
		return writeSysctl("net/ipv4/ip_unprivileged_port_start", "0")
	})
	if err != nil {
		return err
	}
	set := func() error { return setCongestion(cfg.Congestion) }
	return errors.Join(t.hostAdmin.do(set), t.peerAdmin.do(set))
}

// join makes the links between host and peer.
func (t *topology) join(peerNS int, delay time.Duration) error {
	if delay == 0 {
		return t.hostAdmin.do(func() error { return addVeth(peerNS) })
	}
	var taps [2]*os.File
	err := t.hostAdmin.do(func() (err error) { taps[0], err = addTap(hostLink); return err })
	if err != nil {
		return err
	}
	err = t.peerAdmin.do(func() (err error) { taps[1], err = addTap(peerLink); return err })
	if err != nil {
		taps[0].Close()
		return err
	}
	t.relay = newRelay(taps[0], taps[1], delay)
	t.relay.start()
	return nil
}

// splitOff makes a network namespace for the place admin, and puts the place user
// into it, where it calls prepare and drops its capabilities. It returns a
// descriptor of the namespace.
func splitOff(admin, user *place, prepare func()) (int, error) {
	fd := -1
	err := admin.do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, err
	}
	err = user.do(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		prepare()
		return dropCapabilities()
	})
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// addVeth joins the calling thread's network namespace with the peer's.
func addVeth(peerNS int) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: hostLink, MTU: vethMTU},
		PeerName:      peerLink,
		PeerNamespace: netlink.NsFd(peerNS),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth pair %q and %q: %w", hostLink, peerLink, err)
	}
	return nil
}

// tapQueue is how many frames wait for the relay before the kernel drops: more
// than the windows of all streams of a long path.
const tapQueue = 10000

// addTap makes a tap in the calling thread's network namespace.
func addTap(name string) (*os.File, error) {
	f, err := openTap(name)
	if err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetTxQLen(link, tapQueue)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("set queue of tap %q: %w", name, err)
	}
	return f, nil
}

// configure gives the link its addresses, brings it and lo up, and adds default
// routes through the given gateways. It acts on the calling thread's namespace.
func configure(name string, addrs, gateways []string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %q: %w", name, err)
	}
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		bits := plen4
		if ip.Is6() {
			bits = plen6
		}
		addr, err := netlink.ParseAddr(netip.PrefixFrom(ip, bits).String())
		if err != nil {
			return fmt.Errorf("parse address %q: %w", a, err)
		}
		if ip.Is6() {
			// Duplicate address detection would hold the address back for a second.
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add address %s to %q: %w", addr, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %q up: %w", name, err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	for _, g := range gateways {
		// pasta takes the interface of the default route as its model (passt(1), -i).
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: netip.MustParseAddr(g).AsSlice()}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("add default route via %s: %w", g, err)
		}
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// allowPing lets the user's own group open unprivileged ICMP sockets (icmp(7),
// ping_group_range), as the distributions do. Only mapped groups can be named.
func allowPing() error {
	gid := os.Getgid()
	return writeSysctl("net/ipv4/ping_group_range", fmt.Sprintf("%d %d", gid, gid))
}

// writeSysctl sets the key, written with slashes, in the calling thread's network
// namespace.
func writeSysctl(key, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %q: %w", strings.ReplaceAll(key, "/", "."), value, err)
	}
	return nil
}
