// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// What the load of a soak is made of; how much of it there is, soak_check.go says.
const (
	soakStreams  = 4
	soakMessage  = 1 << 20                // bytes of a stream's message
	soakPace     = 100 * time.Millisecond // between two messages of a stream
	soakAtOnce   = 64                     // exchanges of a kind under way at most
	soakTries    = 3                      // of a datagram, which may be lost
	soakAnswer   = time.Second            // to wait for each
	soakDrain    = 30 * time.Second       // for the streams to end
	soakUDPSizes = 1400                   // bytes; payloads are of 8 to 8 + this
)

// soakArgs say where the load goes and for how long.
type soakArgs struct {
	Addr, DNS netip.Addr
	Duration  time.Duration
}

// soakCounts are what the load did until now.
type soakCounts struct {
	Bytes      int64  `json:"bytes"` // that came back on the long streams
	Conns      int64  `json:"conns"`
	UDP        int64  `json:"udp"`
	DNS        int64  `json:"dns"`
	Failed     int64  `json:"failed"`
	FirstError string `json:"first_error,omitempty"`
}

// A soakLoad is the container's side of a soak.
type soakLoad struct {
	group                   sync.WaitGroup
	bytes, conns, udp, asks atomic.Int64

	mu     sync.Mutex
	failed int64
	first  error
}

// start starts the load, which ends by itself after the duration.
func (l *soakLoad) start(a soakArgs) (struct{}, error) {
	end := time.Now().Add(a.Duration)
	for i := range soakStreams {
		c, err := dial(a.Addr, i, echoPreamble(soakMessage)...)
		if err != nil {
			return struct{}{}, err
		}
		l.group.Go(func() {
			if err := l.stream(c, end); err != nil {
				l.fail(fmt.Errorf("long stream %d: %w", i+1, err))
			}
		})
	}
	l.spread(share(soakConns, a.Duration), a.Duration, &l.conns, func(n int) error { return shortConnection(a.Addr, n, n%2 == 0) })
	l.spread(share(soakUDP, a.Duration), a.Duration, &l.udp, func(n int) error { return udpExchange(a.Addr, n) })
	l.spread(share(soakDNS, a.Duration), a.Duration, &l.asks, func(n int) error { return dnsExchange(a.DNS, n, soakTries) })
	return struct{}{}, nil
}

// counts returns what was done until now.
func (l *soakLoad) counts() soakCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := soakCounts{Bytes: l.bytes.Load(), Conns: l.conns.Load(), UDP: l.udp.Load(), DNS: l.asks.Load(), Failed: l.failed}
	if l.first != nil {
		c.FirstError = l.first.Error()
	}
	return c
}

// stop waits for the end of the load and returns what was done.
func (l *soakLoad) stop() (soakCounts, error) {
	l.group.Wait()
	return l.counts(), nil
}

func (l *soakLoad) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed++
	if l.first == nil {
		l.first = err
	}
}

// spread does n exchanges at an even pace over d and counts those that succeed.
func (l *soakLoad) spread(n int, d time.Duration, done *atomic.Int64, exchange func(int) error) {
	l.group.Go(func() {
		start, slots := time.Now(), make(chan struct{}, soakAtOnce)
		for i := range n {
			time.Sleep(time.Until(start.Add(d * time.Duration(i) / time.Duration(n))))
			slots <- struct{}{}
			l.group.Go(func() {
				defer func() { <-slots }()
				if err := exchange(i); err != nil {
					l.fail(err)
					return
				}
				done.Add(1)
			})
		}
	})
}

// stream sends messages to the echo until end and checks what comes back. Both
// directions move at once: the echo of one message is read while the next is sent.
func (l *soakLoad) stream(c *net.TCPConn, end time.Time) error {
	defer c.Close()
	if err := c.SetDeadline(end.Add(soakDrain / 2)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	var messages atomic.Int64
	go func() {
		msg := pattern(soakMessage)
		for n := uint64(0); time.Now().Before(end); n++ {
			binary.BigEndian.PutUint64(msg, n)
			if _, err := c.Write(msg); err != nil {
				sent <- fmt.Errorf("send: %w", err)
				return
			}
			messages.Add(1)
			time.Sleep(soakPace)
		}
		sent <- c.CloseWrite()
	}()
	got, err := l.verify(c)
	if err != nil {
		return errors.Join(err, c.Close(), <-sent)
	}
	if err := <-sent; err != nil {
		return err
	}
	if got != messages.Load() {
		return fmt.Errorf("%d of %d messages came back", got, messages.Load())
	}
	return nil
}

// verify reads messages until the end of the stream, which it counts.
func (l *soakLoad) verify(r io.Reader) (int64, error) {
	want, msg := pattern(soakMessage), make([]byte, soakMessage)
	for n := uint64(0); ; n++ {
		_, err := io.ReadFull(r, msg)
		if err == io.EOF {
			return int64(n), nil
		}
		if err != nil {
			return int64(n), fmt.Errorf("receive message %d: %w", n, err)
		}
		binary.BigEndian.PutUint64(want, n)
		if !bytes.Equal(want, msg) {
			return int64(n), fmt.Errorf("message %d came back changed", n)
		}
		l.bytes.Add(soakMessage)
	}
}

// pattern returns n bytes whose period is a prime, so that bytes that moved by the
// size of any packet or page are seen.
func pattern(n int) []byte {
	const period = 251
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % period)
	}
	return b
}

// udpExchange sends one datagram from a new port and wants it back.
func udpExchange(addr netip.Addr, n int) error {
	msg := pattern(8 + n*7%(soakUDPSizes+1))
	binary.BigEndian.PutUint64(msg, uint64(n))
	err := ask(netip.AddrPortFrom(addr, udpPortEcho), msg, soakTries, func(answer []byte) error {
		if !bytes.Equal(answer, msg) {
			return fmt.Errorf("the answer of %d bytes is not the question of %d", len(answer), len(msg))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("UDP exchange: %w", err)
	}
	return nil
}

// ask sends a datagram, at most so many times, until an answer comes, which check
// checks.
func ask(to netip.AddrPort, question []byte, tries int, check func(answer []byte) error) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, udpMaxSize)
	for range tries {
		if _, err = c.Write(question); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(soakAnswer)); err != nil {
			return err
		}
		var n int
		if n, err = c.Read(buf); err == nil {
			return check(buf[:n])
		}
	}
	return fmt.Errorf("no answer to %d tries: %w", tries, err)
}
