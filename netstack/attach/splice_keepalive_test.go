// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// TestSpliceKeepalive looks at the session's own two sockets of a flow.
func TestSpliceKeepalive(t *testing.T) {
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		p := r.connect(t, f)
		inside, outside := tcpAddr(p.container.LocalAddr()), tcpAddr(p.peer.LocalAddr())
		for name, ends := range map[string][2]netip.AddrPort{
			"container's side": {outside, inside},
			"host's side":      {tcpAddr(p.peer.RemoteAddr()), outside},
		} {
			fd := ownSocket(t, ends[0], ends[1])
			for option, o := range map[string][2]int{
				"SO_KEEPALIVE":  {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
				"TCP_NODELAY":   {unix.IPPROTO_TCP, unix.TCP_NODELAY},
				"SO_OOBINLINE":  {unix.SOL_SOCKET, unix.SO_OOBINLINE},
				"TCP_KEEPINTVL": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
			} {
				// A flow that lives for a second gets its keep-alives.
				attachtest.Eventually(t, option+" of the "+name+" is set", func() bool {
					got, err := unix.GetsockoptInt(fd, o[0], o[1])
					check(t, err)
					return got != 0 && (option != "TCP_KEEPINTVL" || got < 75) // 75: the kernel's own
				})
			}
		}
	})
}

// ownSocket returns this process's descriptor of the TCP socket with those ends.
func ownSocket(t testing.TB, local, peer netip.AddrPort) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range fds {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if sa, err := unix.Getpeername(fd); err != nil || addrPort(sa) != peer {
			continue
		}
		if sa, err := unix.Getsockname(fd); err == nil && addrPort(sa) == local {
			return fd
		}
	}
	t.Fatalf("there is no socket from %s to %s", local, peer)
	return -1
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
