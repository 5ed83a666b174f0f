// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"fmt"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"golang.org/x/sys/unix"
)

// backlog is how many connections may wait to be accepted; the kernel has a limit
// of its own, net.core.somaxconn, 4096 since Linux 5.4.
const backlog = 4096

// congestion is the congestion control of our sockets in the container: Reno, which
// every kernel has and allows. Between them and the container's there is no network
// but lo, which loses nothing; what others do for networks costs. BBR paces with a
// timer, whose segments overtake those that are sent in between, so that a machine
// with BBR as its default carried half as much. CUBIC's HyStart ends slow start early.
const congestion = "reno"

type option struct {
	name              string
	level, key, value int
}

// listenOn makes the socket a listener at the address, for connections to whatever
// address where TPROXY gives it some. What it accepts inherits all of its options.
func (f family) listenOn(fd int, addr netip.Addr) error {
	if err := f.setOptions(fd); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(acceptedMark)); err != nil {
		return fmt.Errorf("set SO_MARK: %w", err)
	}
	return listen(fd, addr)
}

// setOptions sets the options of a listener, for which a capability is needed.
func (f family) setOptions(fd int) error {
	transparent := option{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT, 1}
	if f.domain == unix.AF_INET6 {
		transparent = option{"IPV6_TRANSPARENT", unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}
	}
	options := []option{
		transparent,
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		// What is accepted may be bound anew, beside others (Factory).
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		// Urgent data arrives in line: the kernel would hold a byte of it back.
		{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 1},
	}
	if f.domain == unix.AF_INET6 {
		options = append(options, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.key, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	// Without it all works, more slowly.
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
	return nil
}

func listen(fd int, addr netip.Addr) error {
	if err := unix.Bind(fd, sockaddr.Of(netip.AddrPortFrom(addr, 0))); err != nil {
		return fmt.Errorf("bind listener to %s: %w", addr, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	return nil
}
