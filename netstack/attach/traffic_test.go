// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

// trafficWord is the first argument of the test binary where it makes traffic in a
// place: a lot of it needs more descriptors than the tests' process has to spare.
const trafficWord = "attach-traffic"

// What a client's first byte asks of the server.
const (
	askEcho  = 'e' // send everything back until the end
	askClose = 'c' // send it back and close first
)

// traffic is what the test binary does for trafficWord:
//
//	serve ADDR          answer clients at ADDR
//	hold ADDR N         open N connections at once, use and keep them
//	short ADDR N WIDTH  open N connections, WIDTH at a time, use and close them
func traffic(args []string) int {
	err := errors.New("want serve, hold or short")
	switch {
	case len(args) == 2 && args[0] == "serve":
		err = serveTraffic(args[1])
	case len(args) == 3 && args[0] == "hold":
		err = holdTraffic(args[1], number(args[2]))
	case len(args) == 4 && args[0] == "short":
		err = shortTraffic(args[1], number(args[2]), number(args[3]))
	}
	if err != nil {
		fmt.Println("traffic:", err)
		return 1
	}
	return 0
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func serveTraffic(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("serves", l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go answerTraffic(c)
	}
}

func answerTraffic(c net.Conn) {
	defer c.Close()
	var b [1]byte
	for {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		if _, err := c.Write(b[:]); err != nil || b[0] == askClose {
			return
		}
	}
}

// visit opens a connection and exchanges a byte.
func visit(addr string, ask byte) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, attachtest.Patience)
	if err != nil {
		return nil, err
	}
	b := []byte{ask}
	_, err = c.Write(b)
	if err == nil {
		_, err = io.ReadFull(c, b)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// each runs do n times, width at a time, and returns the first errors.
func each(n, width int, do func(i int) error) error {
	var mu sync.Mutex
	var errs []error
	var wait sync.WaitGroup
	next := make(chan int)
	for range width {
		wait.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wait.Wait()
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d failed, the first by: %w", len(errs), n, errs[0])
}

func holdTraffic(addr string, n int) error {
	held := make([]*net.TCPConn, n)
	err := each(n, n, func(i int) (err error) {
		held[i], err = visit(addr, askEcho)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Println("holds", n)
	_ = unix.Pause() // until killed
	return fmt.Errorf("woken with %d connections", len(held))
}

// shortTraffic lets the server close first, and, every second time, breaks off.
func shortTraffic(addr string, n, width int) error {
	err := each(n, width, func(i int) error {
		if i%2 == 1 {
			c, err := visit(addr, askEcho)
			if err != nil {
				return err
			}
			return errors.Join(c.SetLinger(0), c.Close())
		}
		c, err := visit(addr, askClose)
		if err != nil {
			return err
		}
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			return fmt.Errorf("read %d, %w, want %v", n, err, io.EOF)
		}
		return c.Close()
	})
	if err == nil {
		fmt.Println("closed", n)
	}
	return err
}

// traffic starts the test binary in the place.
func (r *rig) traffic(t testing.TB, p *attachtest.Place, args ...string) *attachtest.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return p.Start(t, append([]string{self, trafficWord}, args...)...)
}

// serveTraffic starts a server at the peer and returns its address.
func (r *rig) serveTraffic(t testing.TB, f attachtest.Family) string {
	t.Helper()
	s := r.traffic(t, r.Peer, "serve", netip.AddrPortFrom(f.PeerAddr, 0).String())
	return strings.Fields(s.WaitLine(t, "serves"))[1]
}

// rss returns the resident set of this process in KiB.
func rss(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return number(strings.Fields(v)[0])
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
