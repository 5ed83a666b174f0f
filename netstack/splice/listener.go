// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// backlog is how many connections may wait to be accepted; the kernel has a limit
// of its own, net.core.somaxconn, 4096 since Linux 5.4.
const backlog = 4096

type option struct {
	name              string
	level, key, value int
}

// listenOn makes the socket a listener for connections to whatever address. What
// it accepts inherits all of its options.
func (f family) listenOn(fd int) error {
	transparent := option{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT, 1}
	if f.domain == unix.AF_INET6 {
		transparent = option{"IPV6_TRANSPARENT", unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}
	}
	options := []option{
		transparent,
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
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
	var sa unix.Sockaddr = &unix.SockaddrInet6{Addr: f.listen.As16()}
	if f.listen.Is4() {
		sa = &unix.SockaddrInet4{Addr: f.listen.As4()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind listener to %s: %w", f.listen, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen on %s: %w", f.listen, err)
	}
	return nil
}
