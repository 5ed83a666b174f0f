// SPDX-License-Identifier: Apache-2.0

package sockaddr

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRoundTrip has the kernel read what Put writes, and Get what the kernel writes.
func TestRoundTrip(t *testing.T) {
	for _, s := range []string{"192.0.2.1:80", "0.0.0.0:0", "[2001:db8::1]:65535", "[::]:1"} {
		a := netip.MustParseAddrPort(s)
		var sa unix.RawSockaddrInet6
		size := Put(&sa, a)
		want := uint32(unix.SizeofSockaddrInet6)
		if a.Addr().Is4() {
			want = unix.SizeofSockaddrInet4
		}
		if size != want {
			t.Errorf("%s takes %d bytes, want %d", a, size, want)
		}
		if got := Get(&sa); got != a {
			t.Errorf("%s comes back as %s", a, got)
		}
	}
}

// TestGetUnmaps has an IPv4 client of a socket for both families.
func TestGetUnmaps(t *testing.T) {
	var sa unix.RawSockaddrInet6
	Put(&sa, netip.MustParseAddrPort("[::ffff:192.0.2.1]:80"))
	if got, want := Get(&sa), netip.MustParseAddrPort("192.0.2.1:80"); got != want {
		t.Errorf("read %s, want %s", got, want)
	}
}

// TestKernelAgrees binds sockets to loopback addresses that Put and Of have written.
func TestKernelAgrees(t *testing.T) {
	for _, s := range []string{"127.0.0.1:0", "[::1]:0"} {
		a := netip.MustParseAddrPort(s)
		domain := unix.AF_INET
		if a.Addr().Is6() {
			domain = unix.AF_INET6
		}
		fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, Of(a)); err != nil {
			t.Fatalf("bind to %s: %v", a, err)
		}
	}
}
