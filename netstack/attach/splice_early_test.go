// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// TestSpliceEarly has a peer that says what it has to say, and ends, before the
// container's handshake is over.
func TestSpliceEarly(t *testing.T) {
	const times = 100
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			for _, tt := range []struct {
				name string
				end  func(*net.TCPConn) error
				want func([]byte, error) bool
			}{
				{"nothing and FIN", (*net.TCPConn).Close, func(b []byte, err error) bool { return err == nil && len(b) == 0 }},
				{"banner and FIN", func(c *net.TCPConn) error {
					_, err := c.Write([]byte("hello"))
					return errors.Join(err, c.Close())
				}, func(b []byte, err error) bool { return err == nil && string(b) == "hello" }},
				{"RST", func(c *net.TCPConn) error {
					return errors.Join(c.SetLinger(0), c.Close())
				}, func(b []byte, err error) bool { return errors.Is(err, unix.ECONNRESET) && len(b) == 0 }},
			} {
				t.Run(tt.name, func(t *testing.T) {
					l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
					served := make(chan error, 1)
					go func() {
						var errs []error
						for range times {
							c, err := l.AcceptTCP()
							if err != nil {
								served <- err
								return
							}
							errs = append(errs, tt.end(c))
						}
						served <- errors.Join(errs...)
					}()
					for i := range times {
						c, err := r.c.Dial(t, "tcp", tcpAddr(l.Addr()))
						if err != nil {
							if tt.name == "RST" && (errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ECONNREFUSED)) {
								continue // the peer was faster
							}
							t.Fatalf("connect %d: %v", i, err)
						}
						if b, err := io.ReadAll(c); !tt.want(b, err) {
							t.Fatalf("connection %d: read %q, %v", i, b, err)
						}
						c.Close()
					}
					check(t, <-served)
				})
			}
		})
		r.noFlows(t)
		if path == netstack.PathSpliced && r.logged(saysStacked) > 0 {
			t.Error("the path was given up")
		}
	})
}

// TestSpliceClientLeaves closes the container's end as soon as it is connected,
// with what it has written.
func TestSpliceClientLeaves(t *testing.T) {
	const times = 100
	paths(t, func(t *testing.T, path string) {
		r := startOn(t, path, nil)
		families(t, func(t *testing.T, f attachtest.Family) {
			l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
			for i := range times {
				c, err := r.c.Dial(t, "tcp", tcpAddr(l.Addr()))
				check(t, err)
				_, err = c.Write([]byte("hello"))
				check(t, err, c.Close())
				p := accepted(t, l)
				if b, err := io.ReadAll(p); err != nil || string(b) != "hello" {
					t.Fatalf("connection %d: the peer reads %q, %v", i, b, err)
				}
				p.Close()
			}
		})
		r.noFlows(t)
	})
}

// TestSpliceLate has Run set the spliced path up: what the container sends before waits
// for that.
func TestSpliceLate(t *testing.T) {
	r := prepare(t, func(cfg *attach.Config) { cfg.LateSplice = true })
	l := r.Peer.Listen(t, netip.AddrPortFrom(attachtest.Families()[0].PeerAddr, 0))
	dialed := make(chan error, 1)
	go func() {
		c, err := r.c.Dial(t, "tcp", tcpAddr(l.Addr()))
		if err == nil {
			err = c.Close()
		}
		dialed <- err
	}()
	if got := r.s.Path(); got != netstack.PathStacked {
		t.Errorf("before Run the path is %q", got)
	}
	r.run(t)
	r.waitSpliced(t, 1)
	if err := <-dialed; err != nil {
		t.Errorf("a connection from before Run: %v", err)
	}
	if got := r.s.Path(); got != netstack.PathSpliced {
		t.Errorf("in Run the path is %q", got)
	}
	families(t, func(t *testing.T, f attachtest.Family) { r.speaksBy(t, f, netstack.PathSpliced) })
}

// TestSpliceEarlyInVain has the container lose the SYN that is written back to it. What the
// peer has said before the helper saw that it is connected arrives all the same, when the
// SYN comes again and is stacked.
func TestSpliceEarlyInVain(t *testing.T) {
	attachtest.NeedTools(t, "nft", "ss")
	r := &rig{World: attachtest.Open(t), c: attachtest.NewContainer(t), plan: newPlan(t), log: &syncBuffer{}}
	h := r.startHelper(t)
	r.c.Exec(t, "nft", "add table inet f { chain pre { type filter hook prerouting priority -300; tcp flags & (syn|ack) == syn drop; }; }")
	families(t, func(t *testing.T, f attachtest.Family) {
		l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		answer := r.mute(t, tcpAddr(l.Addr()))
		told := make(chan string, 1)
		go func() {
			c, err := r.c.Dial(t, "tcp", tcpAddr(l.Addr()))
			if err != nil {
				told <- err.Error()
				return
			}
			got, err := io.ReadAll(c)
			told <- fmt.Sprint(string(got), err)
		}()
		port := tcpAddr(l.Addr()).Port()
		hostIs := func(state string) bool {
			return r.Host.Exec(t, "ss", "-Htn", "state", state, fmt.Sprintf("dport = :%d", port)) != ""
		}
		attachtest.Eventually(t, "the helper connects", func() bool { return hostIs("syn-sent") })
		check(t, h.Process.Signal(syscall.SIGSTOP))
		answer()
		c, err := l.AcceptTCP()
		check(t, err)
		_, err = c.Write([]byte("hello"))
		check(t, errors.Join(err, c.Close()))
		attachtest.Eventually(t, "all is there", func() bool { return hostIs("close-wait") })
		check(t, h.Process.Signal(syscall.SIGCONT))
		if got := <-told; got != "hello<nil>" {
			t.Errorf("the container got %q", got)
		}
	})
}
