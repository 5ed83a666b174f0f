// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/netstack/policy"
	"golang.org/x/sys/unix"
)

// spliceListener returns where the session listens in the container.
func (r *rig) spliceListener(t testing.TB, f attachtest.Family) netip.AddrPort {
	t.Helper()
	want := map[bool]string{false: "192.0.0.8:", true: "[100::8]:"}[f.Is6()]
	for _, word := range strings.Fields(r.c.Exec(t, "ss", "-Htln")) {
		if strings.HasPrefix(word, want) {
			return netip.MustParseAddrPort(word)
		}
	}
	t.Fatal("there is no listener")
	return netip.AddrPort{}
}

// TestSpliceListenerIsClosed connects to the listener itself, as root of the
// container, by each way to get there. No bytes may come from anybody.
func TestSpliceListenerIsClosed(t *testing.T) {
	attachtest.NeedTools(t, "nft", "ss")
	const port = 4003
	for _, tt := range []struct {
		name, rules string
	}{
		{"straight", "true"},
		{"address taken", "ip addr add 192.0.0.8/32 dev lo; ip addr add 100::8/128 dev lo nodad"},
		{"DNAT", `nft "table $family x { chain out { type nat hook output priority -100; tcp dport 4003 dnat to $listener; }; }"; ip addr add 192.0.0.8/32 dev lo; ip addr add 100::8/128 dev lo nodad`},
		{"TPROXY", `nft "table $family x {
	chain out { type route hook output priority -200; tcp dport 4003 meta mark set 0x5100000; }
	chain pre { type filter hook prerouting priority -200; iif lo tcp dport 4003 tproxy to $listener meta mark set 0x5100000 accept; }
}"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			families(t, func(t *testing.T, f attachtest.Family) {
				r := spliced(t)
				r.path = ""
				// Somebody else's connection, which is open.
				l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, port))
				bystander := r.connect(t, f)
				at := r.spliceListener(t, f)
				family := map[bool]string{false: "ip", true: "ip6"}[f.Is6()]
				r.c.Exec(t, "sh", "-ec", fmt.Sprintf("family=%s listener=%s; %s", family, at, tt.rules))
				for _, dst := range []netip.AddrPort{at, tcpAddr(l.Addr())} {
					if dst != at && !strings.Contains(tt.rules, "$listener") {
						continue // that one may be connected to
					}
					c, err := r.c.Dial(t, "tcp", dst)
					if err != nil {
						continue // it got nowhere: well
					}
					_, _ = c.Write([]byte("x"))
					if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
						t.Errorf("connected to %s, and read %d, %v", dst, n, err)
					}
					c.Close()
				}
				pingpong(t, bystander)
				nobody(t, l)
			})
		})
	}
}

// nobody proves that nobody has connected to the listener.
func nobody(t testing.TB, l interface {
	SyscallConn() (syscall.RawConn, error)
}) {
	t.Helper()
	raw, err := l.SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		if n, _, err := unix.Accept(int(fd)); err != unix.EAGAIN {
			unix.Close(n)
			t.Errorf("somebody has connected: %v", err)
		}
	}))
}

// TestSplicePolicyHolds lets the container turn its own SYNs, to what the policy
// denies, round to the listener.
func TestSplicePolicyHolds(t *testing.T) {
	attachtest.NeedTools(t, "nft", "ss")
	const denied = 4004
	r := startOn(t, netstack.PathSpliced, func(cfg *attach.Config) {
		for _, f := range attachtest.Families() {
			cfg.Rules = append(cfg.Rules, policy.Rule{
				Action: policy.Deny, Prefix: netip.PrefixFrom(f.PeerAddr, f.PeerAddr.BitLen()), PortLo: denied, PortHi: denied,
			})
		}
	})
	families(t, func(t *testing.T, f attachtest.Family) {
		family := map[bool]string{false: "ip", true: "ip6"}[f.Is6()]
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, denied))
		allowed := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		r.c.Exec(t, "nft", fmt.Sprintf(`table %s x {
	chain out { type route hook output priority -200; tcp dport %[2]d meta mark set 0x5100000; }
	chain pre { type filter hook prerouting priority -200; iif lo tcp dport %[2]d tproxy to %[3]s meta mark set 0x5100000 accept; }
}`, family, denied, r.spliceListener(t, f)))
		// Races with allowed ones from the same port.
		for i := range 20 {
			from := netip.AddrPortFrom(r.family(f).Container, uint16(22000+i))
			good := r.begin(t, from, tcpAddr(allowed.Addr()))
			bad := r.begin(t, from, tcpAddr(l.Addr()))
			p := tcpPair{finish(t, good), accepted(t, allowed)}
			pingpong(t, p)
			_, _ = unix.Write(int(bad.Fd()), []byte("x"))
			bad.Close()
			p.close()
		}
		nobody(t, l)
	})
}

// TestSpliceHostLoopback refuses the host's loopback, which nobody has asked for.
func TestSpliceHostLoopback(t *testing.T) {
	r := spliced(t)
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Host.Listen(t, netip.AddrPortFrom(f.Loopback, 0))
		for _, dst := range []netip.Addr{r.family(f).Gateway, r.family(f).DNS} {
			if c, err := r.c.Dial(t, "tcp", netip.AddrPortFrom(dst, tcpAddr(l.Addr()).Port())); err == nil {
				t.Errorf("connected to %s", c.RemoteAddr())
			}
		}
		nobody(t, l)
	})
	if n := r.counter(t, "refused_host_loopback_off"); n < 2 {
		t.Errorf("refused_host_loopback_off is %d, want one for each family", n)
	}
}

// TestSpliceTimeout connects to a peer that never answers: the errno is that of
// the host.
func TestSpliceTimeout(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	r := spliced(t)
	type attempt struct {
		name string
		*os.File
	}
	var attempts []attempt
	for _, f := range attachtest.Families() {
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		r.mute(t, tcpAddr(l.Addr()))
		for name, place := range map[string]*attachtest.Place{"container": r.c, "host": r.Host} {
			domain := map[bool]int{false: unix.AF_INET, true: unix.AF_INET6}[f.Is6()]
			s := place.Socket(t, domain, unix.SOCK_STREAM, 0)
			defer s.Close()
			fd := int(s.Fd())
			check(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1), unix.SetNonblock(fd, true))
			if err := unix.Connect(fd, sockaddr(tcpAddr(l.Addr()))); err != unix.EINPROGRESS {
				t.Fatal(err)
			}
			attempts = append(attempts, attempt{name + " " + f.Name, s})
		}
	}
	for _, a := range attempts {
		fd := int(a.Fd())
		attachtest.Eventually(t, "the connect has ended", func() bool {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			n, err := unix.Poll(poll, 0)
			return n == 1 && err == nil
		})
		if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || unix.Errno(errno) != unix.ETIMEDOUT {
			t.Errorf("%s: %v, %v, want %v", a.name, unix.Errno(errno), err, unix.ETIMEDOUT)
		}
	}
}
