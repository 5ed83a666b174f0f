// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// relayMemory bounds what one direction of a relay holds, in bytes of buffers.
// What comes beyond is dropped, and counted: it is 50 ms of 40 Gbit/s.
const relayMemory = 256 << 20

// relayLate is from when on a frame counts as late: a tenth of the long path's
// delay. TCP takes more for a queue that fills (RFC 9406 §4.2).
const relayLate = longDelay / 10

// relayLateShare is the per cent of late frames from which on the path was another
// than the one asked for.
const relayLateShare = 10

// A relay joins two taps and holds every frame for the same time, in user space:
// the queueing discipline that delays (netem) is often not built. It carries frames
// as the taps give them, with the virtio header: TCP's segments come and go in
// pieces of up to 64 KiB, so that the relay is not what limits.
type relay struct {
	taps  [2]*os.File
	lines [2]*delayLine // from taps[i] to the other
	group sync.WaitGroup
}

// RelayStats say what a relay did in both directions.
type RelayStats struct {
	Frames  int64         `json:"frames"`
	Bytes   int64         `json:"bytes"`
	Dropped int64         `json:"dropped"`
	Late    int64         `json:"late"`        // frames that came relayLate after they were due
	MaxLate time.Duration `json:"max_late_ns"` // beyond the delay
	MaxHeld int           `json:"max_held_bytes"`
}

// LateShare is the per cent of frames that were late.
func (s RelayStats) LateShare() float64 {
	return 100 * float64(s.Late) / float64(max(s.Frames, 1))
}

// newRelay takes over the taps. Start starts it, close ends it.
func newRelay(a, b *os.File, delay time.Duration) *relay {
	return &relay{taps: [2]*os.File{a, b}, lines: [2]*delayLine{newDelayLine(delay, relayMemory), newDelayLine(delay, relayMemory)}}
}

// start begins to carry frames.
func (r *relay) start() {
	for i, l := range r.lines {
		r.group.Go(func() { fill(l, r.taps[i]) })
		r.group.Go(func() { drain(l, r.taps[1-i]) })
	}
}

// stats adds up both directions.
func (r *relay) stats() RelayStats {
	var all RelayStats
	for _, l := range r.lines {
		s := l.snapshot()
		all.Frames += s.Frames
		all.Bytes += s.Bytes
		all.Dropped += s.Dropped
		all.Late += s.Late
		all.MaxLate = max(all.MaxLate, s.MaxLate)
		all.MaxHeld = max(all.MaxHeld, s.MaxHeld)
	}
	return all
}

// close takes the taps, and with them the links, away.
func (r *relay) close() {
	for i := range r.taps {
		r.taps[i].Close()
		r.lines[i].close()
	}
	r.group.Wait()
}

// fill puts the tap's frames into the line until the tap is closed.
func fill(l *delayLine, from *os.File) {
	for {
		buf := l.buffer(relayFrame)
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		for _, size := range [...]int{relaySmall, relayTrain} {
			if n <= size { // not to hold a long buffer for a short frame
				short := l.buffer(size)
				copy(short, buf[:n])
				l.release(buf)
				buf = short
				break
			}
		}
		l.push(time.Now(), buf[:n])
	}
}

// drain writes the line's frames to the tap as they become due.
func drain(l *delayLine, to *os.File) {
	for {
		frame, due, ok := l.pop()
		if !ok {
			return
		}
		for wait := time.Until(due); wait > 0; wait = time.Until(due) {
			// Not time.Sleep: the runtime's poller rounds up to a millisecond.
			t := unix.NsecToTimespec(int64(wait))
			unix.Nanosleep(&t, nil)
		}
		l.late(time.Since(due))
		// A frame that the tap refuses is lost, as on any wire.
		if _, err := to.Write(frame); err != nil {
			l.drop()
		}
		l.release(frame)
	}
}

// openTap makes a tap in the calling thread's network namespace that hands over
// and takes segments of TCP whole.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("name tap %q: %w", name, err)
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make tap %q: %w", name, err)
	}
	const offload = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offload); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set offloads of tap %q: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
