// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync/atomic"
)

// chunkSize is the size in bytes of the pieces in which an archive travels between
// the goroutines that decompress, hash and unpack it; chunks is how many there are.
// Together they stay within a processor's second-level cache.
const (
	chunkSize = 128 << 10
	chunks    = 8
)

// A stream is an archive while it is decompressed and hashed, each in a goroutine of
// its own. It is read by one goroutine.
type stream struct {
	plain chan []byte   // filled chunks; closed at the end
	ready chan []byte   // hashed chunks; closed at the end, after err is set
	free  chan []byte   // chunks to fill
	done  chan struct{} // closed by close
	chunk []byte        // the one that is read
	rest  []byte        // what is not yet read of it
	read  *atomic.Int64 // compressed bytes
	size  int64         // bytes of the archive
	sum   hash.Hash
	err   error // of the end; io.EOF for a good one
}

// newStream starts to decompress r. Its goroutines end with r, or, after close, as
// soon as a read of r returns.
func newStream(r io.Reader) (*stream, error) {
	read := new(atomic.Int64)
	in, err := decompress(&counter{r, read})
	if err != nil {
		return nil, err
	}
	// Every channel has room for all chunks: none is ever waited for to send.
	s := &stream{
		plain: make(chan []byte, chunks), ready: make(chan []byte, chunks), free: make(chan []byte, chunks),
		done: make(chan struct{}), read: read, sum: sha256.New(),
	}
	for range chunks {
		s.free <- make([]byte, chunkSize)
	}
	go func() {
		defer close(s.plain)
		defer in.Close()
		s.err = s.fill(in)
	}()
	go func() {
		defer close(s.ready)
		for c := range s.plain {
			_, _ = s.sum.Write(c) // never fails
			s.ready <- c
		}
	}()
	return s, nil
}

// fill reads in into chunks and returns why it ended.
func (s *stream) fill(in io.Reader) error {
	for {
		var c []byte
		select {
		case c = <-s.free:
		case <-s.done:
			return io.ErrClosedPipe
		}
		n, err := 0, error(nil)
		for n < len(c) && err == nil {
			var k int
			k, err = in.Read(c[n:])
			n += k
		}
		s.size += int64(n)
		switch {
		case s.size > maxBytes:
			return fmt.Errorf("it unpacks to more than %d GiB", maxBytes>>30)
		case s.size > ratioFrom && s.size/maxRatio > s.read.Load():
			return fmt.Errorf("it unpacks to more than %d times its size, as no honest layer does", maxRatio)
		}
		s.plain <- c[:n]
		if err == io.EOF {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("decompress: %w", err)
		}
	}
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.chunk != nil {
			s.free <- s.chunk[:chunkSize]
			s.chunk = nil
		}
		c, ok := <-s.ready
		if !ok {
			return 0, s.err
		}
		s.chunk, s.rest = c, c
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// digest is the digest of what was decompressed, once Read has returned io.EOF.
func (s *stream) digest() string { return "sha256:" + hex.EncodeToString(s.sum.Sum(nil)) }

// close lets the goroutines end.
func (s *stream) close() { close(s.done) }

// A counter counts what is read through it.
type counter struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
