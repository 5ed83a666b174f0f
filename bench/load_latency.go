// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxSamples bounds the latencies that one operation keeps, in values.
const maxSamples = 4 << 20

// minTail is how many samples there must be for a p999 that is more than the
// slowest of them.
const minTail = 1000

// latencies sum up round trips, in nanoseconds.
type latencies struct {
	Count               int64
	P50, P99, P999, Max int64
	Lost                int64 // without an answer in time
}

// newLatencies sorts took.
func newLatencies(took []int64) latencies {
	slices.Sort(took)
	return latencies{
		Count: int64(len(took)),
		P50:   Percentile(took, 0.50), P99: Percentile(took, 0.99), P999: Percentile(took, 0.999), Max: Percentile(took, 1),
	}
}

// values are the percentiles in µs under names that begin with prefix. Too few
// samples for a p999 are a partialError.
func (l latencies) values(prefix string) (map[string]float64, error) {
	const micro = 1e3
	v := map[string]float64{prefix + "p50": float64(l.P50) / micro, prefix + "p99": float64(l.P99) / micro}
	if l.Count < minTail {
		return v, partialError{prefix + "p999", fmt.Errorf("too few round trips for a p999: %d, want %d (a longer -duration gives more)", l.Count, minTail)}
	}
	v[prefix+"p999"] = float64(l.P999) / micro
	return v, nil
}

// roundTripArgs ask for a ping-pong of messages of Size bytes on one connection,
// with a pause after each.
type roundTripArgs struct {
	Addr           netip.Addr
	Size           int
	Pause          time.Duration
	Warmup, Window time.Duration
}

// roundTrips plays ping-pong over TCP until the window is over.
func roundTrips(a roundTripArgs) (latencies, error) {
	c, err := dial(a.Addr, 0, echoPreamble(a.Size)...)
	if err != nil {
		return latencies{}, err
	}
	fd, err := takeFD(c)
	if err != nil {
		return latencies{}, err
	}
	defer unix.Close(fd)
	// A path that stops would otherwise hold the read for ever.
	limit := unix.NsecToTimeval(int64(a.Warmup + a.Window + dialTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return latencies{}, fmt.Errorf("bound the wait: %w", err)
	}
	buf := make([]byte, a.Size)
	return a.repeat(func() error {
		err := pingPong(fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("the path stopped: nothing came back for %s", a.Warmup+a.Window+dialTimeout)
		}
		return err
	})
}

// repeat makes round trips until the window is over. A trip that fails with
// os.ErrDeadlineExceeded is lost, with another error it ends all.
func (a roundTripArgs) repeat(trip func() error) (latencies, error) {
	var (
		took  []int64
		lost  int64
		begin = time.Now().Add(a.Warmup)
		end   = begin.Add(a.Window)
		pause = unix.NsecToTimespec(int64(a.Pause))
	)
	for start := time.Now(); start.Before(end); {
		err := trip()
		now := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			lost++
		case err != nil:
			return latencies{}, err
		case start.After(begin) && len(took) < maxSamples:
			took = append(took, int64(now.Sub(start)))
		}
		if a.Pause > 0 {
			// Not time.Sleep: the runtime's poller rounds up to a millisecond.
			unix.Nanosleep(&pause, nil)
			now = time.Now()
		}
		start = now
	}
	l := newLatencies(took)
	l.Lost = lost
	return l, nil
}

// udpAnswerTime is how long a probe waits for its datagram to come back.
const udpAnswerTime = 200 * time.Millisecond

// udpRoundTrips does the same with the peer's UDP echo. Answers to earlier
// datagrams, given up already, are not taken for that of a later one.
func udpRoundTrips(a roundTripArgs) (latencies, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Addr, udpPortEcho)))
	if err != nil {
		return latencies{}, err
	}
	defer c.Close()
	question, answer := make([]byte, max(a.Size, 8)), make([]byte, udpMaxSize)
	n := uint64(0)
	return a.repeat(func() error {
		n++
		binary.BigEndian.PutUint64(question, n)
		if _, err := c.Write(question); err != nil {
			return fmt.Errorf("send datagram: %w", err)
		}
		if err := c.SetReadDeadline(time.Now().Add(udpAnswerTime)); err != nil {
			return err
		}
		for {
			got, err := c.Read(answer)
			if err != nil {
				return fmt.Errorf("receive datagram: %w", err)
			}
			if got >= 8 && binary.BigEndian.Uint64(answer) == n {
				return nil
			}
		}
	})
}

// probeResult is what the probes saw, and the bulk data that arrived here.
type probeResult struct {
	TCP, UDP latencies
	Bulk     windowResult
}

// probe measures round trips over TCP and UDP at once, and counts the bulk data
// that arrives here meanwhile.
func (e *endpoint) probe(a roundTripArgs) (probeResult, error) {
	var (
		r     probeResult
		errs  [3]error
		group sync.WaitGroup
	)
	group.Go(func() { r.TCP, errs[0] = roundTrips(a) })
	group.Go(func() { r.UDP, errs[1] = udpRoundTrips(a) })
	group.Go(func() { r.Bulk, errs[2] = e.received(windowArgs{Warmup: a.Warmup, Window: a.Window}) })
	group.Wait()
	return r, errors.Join(errs[:]...)
}

// latencyArgs ask for Count connections, AtOnce at any time.
type latencyArgs struct {
	Addr          netip.Addr
	Count, AtOnce int
}

// latencyResult has what passed until connect returned, and until the first byte
// of the peer came.
type latencyResult struct {
	Connect, Answer latencies
}

// connectLatency opens connections and waits for one byte on each.
func connectLatency(a latencyArgs) (latencyResult, error) {
	var (
		mu              sync.Mutex
		connect, answer []int64
		errs            []error
		group           sync.WaitGroup
	)
	for i := range a.AtOnce {
		group.Go(func() {
			for n := i; n < a.Count; n += a.AtOnce {
				opened, answered, err := timedConnection(a.Addr, n)
				mu.Lock()
				if err != nil {
					errs = append(errs, fmt.Errorf("connection %d: %w", n+1, err))
				} else {
					connect, answer = append(connect, int64(opened)), append(answer, int64(answered))
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return latencyResult{Connect: newLatencies(connect), Answer: newLatencies(answer)}, errors.Join(errs...)
}

// timedConnection opens a connection, sends a byte and waits for one.
func timedConnection(addr netip.Addr, n int) (opened, answered time.Duration, err error) {
	start := time.Now()
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	c, err := d.Dial("tcp", netip.AddrPortFrom(addr, uint16(tcpPortFirst+n%tcpPorts)).String())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	opened = time.Since(start)
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return 0, 0, err
	}
	buf := []byte{wantShort}
	if _, err := c.Write(buf); err != nil {
		return 0, 0, err
	}
	if _, err := c.Read(buf); err != nil {
		return 0, 0, err
	}
	return opened, time.Since(start), nil
}
