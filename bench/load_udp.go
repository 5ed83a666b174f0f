// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Sizes and times of the UDP load.
const (
	udpBatch     = 64                     // datagrams per sendmmsg or recvmmsg
	udpPace      = 200 * time.Microsecond // between two bursts
	udpSocketBuf = 4 << 20                // bytes; the kernel cuts it to net.core.rmem_max
	udpMaxSize   = 65507                  // bytes: 65535 − IPv4 and UDP headers
	udpHello     = 100 * time.Millisecond // between two tries
	udpTries     = 30
	udpQuiet     = 40 * time.Millisecond // no arrival for so long: the path is empty
	udpDrain     = 2 * time.Second       // at most, to wait for that
)

// A datagram begins with its kind and the number of the run that it belongs to.
const (
	udpKindHello  = 'H'
	udpKindAnswer = 'A'
	udpKindData   = 'D'
	udpHeader     = 9 // bytes
)

// A udpPort is one end of a UDP load.
type udpPort struct {
	conn *net.UDPConn

	mu          sync.Mutex
	run         uint64         // counted are datagrams of this run
	peer        netip.AddrPort // who said hello last; unset on a connected socket
	greeted     bool           // our own hello was answered
	count       int64
	first, last time.Time
}

// udpOpenArgs say which end this is: Addr is unset at the peer, which waits for a
// hello; the container says hello to Addr.
type udpOpenArgs struct {
	Addr netip.Addr
}

// open makes the socket and, at the container, a flow through the subject that the
// peer has answered on.
func (u *udpPort) open(a udpOpenArgs) (struct{}, error) {
	var err error
	if !a.Addr.IsValid() {
		u.conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: udpPortPeer})
	} else {
		u.conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Addr, udpPortPeer)))
	}
	if err != nil {
		return struct{}{}, fmt.Errorf("open UDP socket: %w", err)
	}
	if err := u.conn.SetReadBuffer(udpSocketBuf); err != nil {
		return struct{}{}, fmt.Errorf("set UDP receive buffer: %w", err)
	}
	go u.receive()
	if !a.Addr.IsValid() {
		return struct{}{}, nil
	}
	return struct{}{}, u.greet()
}

// greet says hello until the peer answers.
func (u *udpPort) greet() error {
	hello := make([]byte, udpHeader)
	hello[0] = udpKindHello
	var lastErr error
	for range udpTries {
		if _, err := u.conn.Write(hello); err != nil {
			lastErr = err
		}
		for end := time.Now().Add(udpHello); time.Now().Before(end); time.Sleep(time.Millisecond) {
			u.mu.Lock()
			ok := u.greeted
			u.mu.Unlock()
			if ok {
				return nil
			}
		}
	}
	return errors.Join(fmt.Errorf("no UDP answer from the peer in %s", udpTries*udpHello), lastErr)
}

// receive counts data and answers hellos until the socket is closed.
func (u *udpPort) receive() {
	pc := ipv4.NewPacketConn(u.conn) // recvmmsg for either family
	msgs := make([]ipv4.Message, udpBatch)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{make([]byte, udpMaxSize)}
	}
	for {
		n, err := pc.ReadBatch(msgs, 0)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		u.take(msgs[:max(n, 0)])
	}
}

func (u *udpPort) take(msgs []ipv4.Message) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, m := range msgs {
		b := m.Buffers[0][:m.N]
		if len(b) < udpHeader {
			continue
		}
		switch b[0] {
		case udpKindHello:
			u.peer = m.Addr.(*net.UDPAddr).AddrPort()
			b[0] = udpKindAnswer
			u.conn.WriteToUDPAddrPort(b, u.peer)
		case udpKindAnswer:
			u.greeted = true
		case udpKindData:
			if binary.BigEndian.Uint64(b[1:]) != u.run {
				continue
			}
			if u.count == 0 {
				u.first = now
			}
			u.count++
			u.last = now
		}
	}
}

// udpSendArgs ask for datagrams of Size bytes at Rate per second. The receiving
// end must have been told of Run by udp.count before.
type udpSendArgs struct {
	Run    uint64
	Size   int
	Rate   float64
	Window time.Duration
}

// udpSendResult says what was handed to the kernel.
type udpSendResult struct {
	Sent    int64
	Refused int64 // send errors, such as ENOBUFS
	Elapsed time.Duration
}

// udpSend sends at an even pace. It falls behind where the machine cannot keep up,
// and does not catch up by a burst.
func (e *endpoint) udpSend(a udpSendArgs) (udpSendResult, error) {
	u := &e.udp
	u.mu.Lock()
	peer := u.peer
	u.mu.Unlock()
	payload := make([]byte, a.Size)
	payload[0] = udpKindData
	binary.BigEndian.PutUint64(payload[1:], a.Run)
	msgs := make([]ipv4.Message, udpBatch)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{payload}
		if peer.IsValid() {
			msgs[i].Addr = net.UDPAddrFromAddrPort(peer)
		}
	}
	var (
		pc    = ipv4.NewPacketConn(u.conn)
		r     udpSendResult
		start = time.Now()
		owed  = float64(0)
		then  = start
	)
	for {
		now := time.Now()
		if now.Sub(start) >= a.Window {
			r.Elapsed = now.Sub(start)
			return r, nil
		}
		owed = min(owed+a.Rate*now.Sub(then).Seconds(), max(udpBatch, a.Rate*10*udpPace.Seconds()))
		then = now
		if owed < 1 {
			// Not time.Sleep: the runtime's poller rounds up to a millisecond.
			pause := unix.NsecToTimespec(int64(udpPace))
			unix.Nanosleep(&pause, nil)
			continue
		}
		n, err := pc.WriteBatch(msgs[:min(int(owed), udpBatch)], 0)
		if err != nil {
			r.Refused++
			n = max(n, 1) // the one refused counts as offered, not as sent
			r.Sent--
		}
		r.Sent += int64(n)
		owed -= float64(n)
	}
}

// udpCountArgs end the counting of one run and begin that of Next.
type udpCountArgs struct {
	Next uint64
	Now  bool // do not wait for stragglers
}

// udpCountResult is what arrived of the run.
type udpCountResult struct {
	Count int64
	Span  time.Duration // from the first to the last arrival
}

// udpCount waits until nothing more arrives, unless told not to, then reports.
func (e *endpoint) udpCount(a udpCountArgs) (udpCountResult, error) {
	u := &e.udp
	before, since := int64(-1), time.Now()
	for end := time.Now().Add(udpDrain); !a.Now && time.Now().Before(end); time.Sleep(udpQuiet / 4) {
		u.mu.Lock()
		n := u.count
		u.mu.Unlock()
		if n != before {
			before, since = n, time.Now()
		}
		if time.Since(since) >= udpQuiet {
			break
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	r := udpCountResult{Count: u.count, Span: u.last.Sub(u.first)}
	u.run, u.count, u.first, u.last = a.Next, 0, time.Time{}, time.Time{}
	return r, nil
}
