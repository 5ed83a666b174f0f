// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"
)

// The capture file format is that of pcap-savefile(5), which is two fixed headers:
// a library for it would bring decoders for every protocol there is.
const (
	pcapMagic      = 0xa1b23c4d // nanosecond time stamps
	pcapMajor      = 2
	pcapMinor      = 4
	pcapSnapLen    = 1 << 18 // a frame is never longer
	pcapEthernet   = 1       // LINKTYPE_ETHERNET
	pcapFileHeader = 24
	pcapRecHeader  = 16
)

// A capture writes frames to a file. It is used by any goroutine that reads or
// writes frames.
type capture struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
	err error
}

// StartCapture writes every frame of the tap to w from now on, in the format of
// pcap-savefile(5) with link type Ethernet, in place of an earlier capture's
// writer. The caller closes w after StopCapture or Close. Frames that the
// container sent as one super-frame are written as one. Any goroutine may call
// it.
func (n *Network) StartCapture(w io.Writer) error {
	h := make([]byte, pcapFileHeader)
	binary.NativeEndian.PutUint32(h[0:], pcapMagic)
	binary.NativeEndian.PutUint16(h[4:], pcapMajor)
	binary.NativeEndian.PutUint16(h[6:], pcapMinor)
	binary.NativeEndian.PutUint32(h[16:], pcapSnapLen)
	binary.NativeEndian.PutUint32(h[20:], pcapEthernet)
	if _, err := w.Write(h); err != nil {
		return fmt.Errorf("start capture: %w", err)
	}
	n.link.setCapture(&capture{w: w})
	return nil
}

// StopCapture ends the capture and returns the error that it met, if any. When it
// has returned, nothing more is written.
func (n *Network) StopCapture() error {
	return n.link.setCapture(nil)
}

// setCapture puts c in place of the capture that ran before, which it ends.
func (l *link) setCapture(c *capture) error {
	old := l.capture.Swap(c)
	if old == nil {
		return nil
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	old.w = nil
	return old.err
}

// frame writes one frame, given in pieces. After an error nothing is written any
// more: a file with a hole would mislead.
func (c *capture) frame(parts [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.w == nil || c.err != nil {
		return
	}
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	now := time.Now()
	var h [pcapRecHeader]byte
	binary.NativeEndian.PutUint32(h[0:], uint32(now.Unix()))
	binary.NativeEndian.PutUint32(h[4:], uint32(now.Nanosecond()))
	binary.NativeEndian.PutUint32(h[8:], uint32(size))
	binary.NativeEndian.PutUint32(h[12:], uint32(size))
	c.buf = append(c.buf[:0], h[:]...)
	for _, p := range parts {
		c.buf = append(c.buf, p...)
	}
	if _, err := c.w.Write(c.buf); err != nil {
		c.err = fmt.Errorf("write capture: %w", err)
	}
}
