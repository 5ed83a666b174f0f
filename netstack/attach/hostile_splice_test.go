// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// TestSpliceSlowReader has said that it sends no more, and has not read what there
// is for it: the flow is over, and the kernel keeps that for it.
func TestSpliceSlowReader(t *testing.T) {
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		p := r.connect(t, f)
		check(t, p.container.CloseWrite())
		if _, err := io.Copy(io.Discard, p.peer); err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 1<<20)
		rand.Read(want) // never fails
		n, err := p.peer.Write(want)
		check(t, err, p.peer.CloseWrite())
		want = want[:n]
		r.noFlows(t)
		got, err := io.ReadAll(p.container)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d of %d bytes, %v", len(got), len(want), err)
		}
		p.close()
	})
}

// TestSpliceForgedAnswers: root in the container may send to netlink sockets there,
// but not to ours.
func TestSpliceForgedAnswers(t *testing.T) {
	r := spliced(t)
	found := 0
	for _, line := range strings.Split(r.c.Exec(t, "cat", "/proc/net/netlink"), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != strconv.Itoa(unix.NETLINK_NETFILTER) && f[1] != strconv.Itoa(unix.NETLINK_ROUTE) || f[2] == "0" {
			continue
		}
		proto, _ := strconv.Atoi(f[1])
		port, err := strconv.ParseUint(f[2], 10, 32)
		check(t, err)
		found++
		s := r.c.Socket(t, unix.AF_NETLINK, unix.SOCK_RAW, proto)
		err = sendTo(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: uint32(port)})
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a message to netlink socket %d of protocol %d: %v, want %v", port, proto, err, unix.ECONNREFUSED)
		}
	}
	if found < 2 {
		t.Errorf("found %d netlink sockets, want 2", found)
	}
}

func sendTo(s *os.File, to unix.Sockaddr) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), make([]byte, unix.SizeofNlMsghdr), 0, to) })
	return errors.Join(cerr, err)
}

// TestSpliceRouted has a network behind the container that is not masqueraded. Its
// connections work at once, and are spliced once conntrack has seen their SYNs.
func TestSpliceRouted(t *testing.T) {
	r := spliced(t)
	r.c = r.bridged(t, "ip daddr 127.9.9.9 accept")
	families(t, func(t *testing.T, f attachtest.Family) {
		attachtest.Eventually(t, "a routed connection is spliced", func() bool {
			p := r.connectAny(t, f)
			path := r.flowOf(t, p).Path
			exchange(t, p.container, p.peer)
			exchange(t, p.peer, p.container)
			p.close()
			r.noFlows(t)
			return path == r.path
		})
	})
}

// TestSpliceTranslated dials an address that the container translates itself.
func TestSpliceTranslated(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	r := spliced(t)
	l := r.Peer.Listen(t, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 0))
	to := netip.MustParseAddrPort(l.Addr().String())
	r.c.Exec(t, "nft", "table ip cluster { chain out { type nat hook output priority -100; ip daddr 192.0.2.9 tcp dport 80 dnat to "+to.String()+"; }; }")
	p := r.connectTo(t, l, netip.MustParseAddrPort("192.0.2.9:80"))
	if f := r.flowOf(t, p); f.Path != r.path {
		t.Errorf("the flow is %s", f.Path)
	}
	exchange(t, p.container, p.peer)
	exchange(t, p.peer, p.container)
}
