// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds one connect of an endpoint.
const dialTimeout = 5 * time.Second

// reachPause is the time between two tries to reach the peer.
const reachPause = 20 * time.Millisecond

// connect connects to the i-th of the service's ports.
func connect(addr netip.Addr, i int) (*net.TCPConn, error) {
	to := netip.AddrPortFrom(addr, uint16(tcpPortFirst+i%tcpPorts))
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// dial connects to the i-th of the service's ports and says what is wanted.
func dial(addr netip.Addr, i int, want ...byte) (*net.TCPConn, error) {
	c, err := connect(addr, i)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(want); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// echoPreamble is what a client sends first for an echo of n bytes.
func echoPreamble(n int) []byte {
	return binary.BigEndian.AppendUint32([]byte{wantEcho}, uint32(n))
}

// reachArgs ask to wait, for at most Limit, until the peer answers.
type reachArgs struct {
	Addr  netip.Addr
	Limit time.Duration
}

// reach connects until one byte comes back from the peer. It returns the
// congestion control of the connection.
func reach(a reachArgs) (string, error) {
	var err error
	for end := time.Now().Add(a.Limit); time.Now().Before(end); time.Sleep(reachPause) {
		var h heldConns
		if _, err = h.hold(holdArgs{Addr: a.Addr, N: 1}); err == nil {
			defer h.conns[0].Close()
			return connCongestion(h.conns[0])
		}
		for _, c := range h.conns {
			c.Close()
		}
	}
	return "", fmt.Errorf("the peer was not reached within %s: %w", a.Limit, err)
}

// A tcpLoad is a set of bulk connections that the container opened. They end with
// the process.
type tcpLoad struct {
	got atomic.Int64 // bytes received on them
	put atomic.Int64 // bytes sent on them
}

// tcpStartArgs describe the connections: Up sends, otherwise they receive.
type tcpStartArgs struct {
	Addr    netip.Addr
	Streams int
	Up      bool
}

// start opens the connections and then starts moving bytes on all of them: those that
// are open must not keep others from being opened.
func (l *tcpLoad) start(a tcpStartArgs) (struct{}, error) {
	want := byte(wantSource)
	move := func(fd int) { sink(fd, &l.got) }
	if a.Up {
		want, move = wantSink, func(fd int) { source(fd, &l.put) }
	}
	var conns []*net.TCPConn
	for i := range a.Streams {
		c, err := connect(a.Addr, i)
		if err != nil {
			return struct{}{}, err
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		if _, err := c.Write([]byte{want}); err != nil {
			return struct{}{}, err
		}
		fd, err := takeFD(c)
		if err != nil {
			return struct{}{}, err
		}
		go move(fd)
	}
	return struct{}{}, nil
}

// connectArgs ask for short connections: opened, one byte each way, closed; where
// the server closes first, its end seen.
type connectArgs struct {
	Addr         netip.Addr
	Ports        int  // of the server's, the first so many
	ServerCloses bool // otherwise the client closes first
	Loop         loop
}

// connectLoop makes short connections until the window is over.
func connectLoop(a connectArgs) (loopResult, error) {
	return a.Loop.run(func(n int) error { return shortConnection(a.Addr, n%a.Ports, a.ServerCloses) }), nil
}

// shortConnection makes one connection to the service's n-th port.
func shortConnection(addr netip.Addr, n int, serverCloses bool) error {
	to := net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, uint16(tcpPortFirst+n%tcpPorts)))
	c, err := net.DialTCP("tcp", nil, to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	buf := []byte{wantShort, 0}
	if serverCloses {
		buf[0] = wantClose
	}
	if _, err := c.Write(buf[:1]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, buf[1:]); err != nil {
		return err
	}
	if !serverCloses {
		return nil
	}
	if n, err := c.Read(buf); err != io.EOF {
		return fmt.Errorf("want end of connection, got %d bytes and error %v", n, err)
	}
	return nil
}

func pingPong(fd int, buf []byte) error {
	for sent := 0; sent < len(buf); {
		n, err := unix.Write(fd, buf[sent:])
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("send: %w", err)
		}
		sent += max(n, 0)
	}
	for got := 0; got < len(buf); {
		n, err := unix.Read(fd, buf[got:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		got += n
	}
	return nil
}

// heldConns are idle connections that stay open until the process ends.
type heldConns struct {
	conns []*net.TCPConn
}

// holdArgs ask for N idle connections in all.
type holdArgs struct {
	Addr netip.Addr
	N    int
}

// hold opens connections until there are N, each proven to reach the peer by one
// byte echoed.
func (h *heldConns) hold(a holdArgs) (struct{}, error) {
	buf := []byte{0}
	for i := len(h.conns); i < a.N; i++ {
		c, err := dial(a.Addr, i, append(echoPreamble(1), buf...)...)
		if err != nil {
			return struct{}{}, fmt.Errorf("connection %d of %d: %w", i+1, a.N, err)
		}
		h.conns = append(h.conns, c)
		if err := c.SetReadDeadline(time.Now().Add(dialTimeout)); err != nil {
			return struct{}{}, fmt.Errorf("connection %d of %d: %w", i+1, a.N, err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return struct{}{}, fmt.Errorf("connection %d of %d: %w", i+1, a.N, err)
		}
	}
	return struct{}{}, nil
}
