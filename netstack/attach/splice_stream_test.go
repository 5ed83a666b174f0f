// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// mtus runs a test on the spliced path with the MTU of most networks, and with
// the largest.
func mtus(t *testing.T, test func(*testing.T, *rig)) {
	for _, mtu := range []int{1500, 65520} {
		t.Run(fmt.Sprintf("MTU %d", mtu), func(t *testing.T) {
			test(t, startOn(t, netstack.PathSpliced, func(cfg *attach.Config) { cfg.Tap.MTU = mtu }))
		})
	}
}

// TestSpliceAddresses looks at a connection from its two ends.
func TestSpliceAddresses(t *testing.T) {
	mtus(t, func(t *testing.T, r *rig) {
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
			dst := tcpAddr(l.Addr())
			p := r.connectTo(t, l, dst)
			if got := tcpAddr(p.container.RemoteAddr()); got != dst {
				t.Errorf("the container is connected to %s, want %s", got, dst)
			}
			if got, want := tcpAddr(p.container.LocalAddr()).Addr(), r.family(f).Container; got != want {
				t.Errorf("the container connects from %s, want %s", got, want)
			}
			if got := tcpAddr(p.peer.RemoteAddr()).Addr(); got != f.HostAddr {
				t.Errorf("the peer sees a client at %s, want %s", got, f.HostAddr)
			}
			info := r.flowOf(t, p)
			if info.Host != dst || info.Remote != dst {
				t.Errorf("the flow goes to %s by %s, want %s", info.Remote, info.Host, dst)
			}
		})
	})
}

// TestSpliceSizes moves a byte and a lot, both ways at once.
func TestSpliceSizes(t *testing.T) {
	mtus(t, func(t *testing.T, r *rig) {
		families(t, func(t *testing.T, f attachtest.Family) {
			for _, size := range []int64{1, 100 << 20} {
				t.Run(strconv.FormatInt(size, 10), func(t *testing.T) {
					p := r.connect(t, f)
					up, down := make(chan error, 1), make(chan error, 1)
					go func() { up <- transfer(p.container, p.peer, size) }()
					go func() { down <- transfer(p.peer, p.container, size) }()
					if err := errors.Join(<-up, <-down); err != nil {
						t.Error(err)
					}
				})
			}
		})
		r.noFlows(t)
	})
}

// transfer sends random bytes from a to b, half-closes, and compares hashes.
func transfer(a *net.TCPConn, b io.Reader, size int64) error {
	sent, got := sha256.New(), sha256.New()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(a, sent), io.LimitReader(rand.NewChaCha8([32]byte{}), size))
		done <- errors.Join(err, a.CloseWrite())
	}()
	n, err := io.Copy(got, b)
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	if n != size || string(got.Sum(nil)) != string(sent.Sum(nil)) {
		return fmt.Errorf("%d bytes arrived, other than the %d that were sent", n, size)
	}
	return nil
}

// ends runs a test with either end as a, and the other as b.
func ends(t *testing.T, r *rig, test func(t *testing.T, a, b *net.TCPConn)) {
	families(t, func(t *testing.T, f attachtest.Family) {
		t.Run("container", func(t *testing.T) {
			p := r.connect(t, f)
			test(t, p.container, p.peer)
		})
		t.Run("peer", func(t *testing.T) {
			p := r.connect(t, f)
			test(t, p.peer, p.container)
		})
	})
}

// TestSpliceCloseUnread closes an end that has not read all: the other end is
// reset, as the closing kernel does it.
func TestSpliceCloseUnread(t *testing.T) {
	r := spliced(t)
	ends(t, r, func(t *testing.T, a, b *net.TCPConn) {
		if _, err := b.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(a, make([]byte, 1)); err != nil { // so that the rest is there
			t.Fatal(err)
		}
		a.Close()
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("read at the other end: %v, want %v", err, unix.ECONNRESET)
		}
	})
	r.noFlows(t)
}

// TestSpliceUrgent sends an urgent byte amid others. All arrive, in order.
func TestSpliceUrgent(t *testing.T) {
	r := spliced(t)
	ends(t, r, func(t *testing.T, a, b *net.TCPConn) {
		raw, err := a.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		send := func(text string, flags int) {
			t.Helper()
			control := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte(text), flags, nil) })
			if err := errors.Join(control, err); err != nil {
				t.Fatal(err)
			}
		}
		send("ab", 0)
		send("!", unix.MSG_OOB)
		send("cd", 0)
		send("?", unix.MSG_OOB)
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || string(got) != "ab!cd?" {
			t.Errorf("%q arrived, %v, want all", got, err)
		}
	})
}
