// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// meetingFilter is a table of the container's that does something with the SYNs which come
// to it by lo: only a kept socket sends such. It counts them first.
const meetingFilter = `add table inet m {
	chain in { type filter hook input priority 0; iif lo tcp flags & (syn|ack) == syn counter %ACTION%; }
}`

// metSYNs returns how many there were.
func (r *rig) metSYNs(t testing.TB) int {
	t.Helper()
	out := r.c.Exec(t, "nft", "list", "table", "inet", "m")
	_, rest, _ := strings.Cut(out, "counter packets ")
	word, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(word)
	if err != nil {
		t.Fatalf("no counter in %q: %v", out, err)
	}
	return n
}

// talks connects to the listener, has something said both ways, and closes from the
// container's side, or the peer's. It returns the path.
func (r *rig) talks(t testing.TB, l *net.TCPListener, peerCloses bool) string {
	t.Helper()
	c, err := r.c.Dial(t, "tcp", tcpAddr(l.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	check(t, c.SetDeadline(deadlineNow()))
	p := tcpPair{c.(*net.TCPConn), accepted(t, l)}
	path := r.flowOf(t, p).Path
	first, second := p.container, p.peer
	if peerCloses {
		first, second = second, first
	}
	for _, say := range []struct {
		from, to *net.TCPConn
		text     string
	}{{first, second, "question"}, {second, first, "answer"}} {
		_, err := say.from.Write([]byte(say.text))
		check(t, err)
		b := make([]byte, 64)
		if n, err := say.to.Read(b); err != nil || string(b[:n]) != say.text {
			t.Fatalf("got %q, %v, want %q", b[:n], err, say.text)
		}
	}
	check(t, first.Close())
	if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil || err.Error() != "EOF" {
		t.Fatalf("got %d bytes and %v, want the end", n, err)
	}
	check(t, second.Close())
	r.noFlows(t)
	return path
}

// TestSpliceMeets connects to one destination again and again: the container's end meets
// the application, which nothing tells but that a SYN comes to it.
func TestSpliceMeets(t *testing.T) {
	attachtest.NeedTools(t, "nft")
	for _, tt := range []struct {
		name, action string
		port         uint16 // of the destination; 0 for any
	}{
		{name: "let in", action: "accept"},
		{name: "port below 1024", action: "accept", port: 80},
		{name: "refused", action: "reject with tcp reset"},
		{name: "dropped", action: "drop"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := spliced(t)
			r.c.Exec(t, "nft", strings.Replace(meetingFilter, "%ACTION%", tt.action, 1))
			families(t, func(t *testing.T, f attachtest.Family) {
				l := r.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, tt.port))
				// Destinations are remembered for a tick: on a slow machine the second
				// connection may come too late to be one that was expected.
				before := r.metSYNs(t)
				attachtest.Eventually(t, "the application is met", func() bool {
					r.talks(t, l, false)
					return r.metSYNs(t) > before
				})
				after := r.metSYNs(t)
				for i := range 6 {
					path := r.talks(t, l, i%2 == 1)
					if path != netstack.PathSpliced {
						t.Errorf("connection %d is %s, want %s", i, path, netstack.PathSpliced)
					}
				}
				if tt.action != "accept" && r.metSYNs(t) != after {
					t.Error("there was a meeting after one that failed")
				}
			})
			if r.logged(saysStacked) > 0 {
				t.Error("the path was given up")
			}
		})
	}
}
