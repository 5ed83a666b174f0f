// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// magicSize is the number of bytes that tell compressions apart.
const magicSize = 6

// readSize is the size in bytes of reads of the compressed archive.
const readSize = 64 << 10

// Decompress returns a reader of what r holds, which the caller closes and bounds. What
// is compressed by gzip, zstd or bzip2 is decompressed, as the bytes say and not a name.
func Decompress(r io.Reader) (io.ReadCloser, error) { return decompress(r) }

// IsCompressed reports whether Decompress would change what begins with these bytes; six
// tell.
func IsCompressed(magic []byte) bool {
	return isGzip(magic) || isZstd(magic) || isBzip2(magic)
}

// Magic bytes: RFC 1952 §2.3.1; RFC 8878 §3.1.1 and, for a skippable frame, §3.1.2.
func isGzip(b []byte) bool { return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) }
func isZstd(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(b) > 3 && b[0]&0xf0 == 0x50 && bytes.Equal(b[1:4], []byte{0x2a, 0x4d, 0x18})
}
func isBzip2(b []byte) bool { return bytes.HasPrefix(b, []byte("BZh")) }

// decompress returns a reader of what r holds: the magic bytes tell how it is
// compressed, not the media type, which registries get wrong. What is none of
// gzip, zstd and bzip2 is returned as it is.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, readSize)
	magic, err := b.Peek(magicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the layer: %w", err)
	}
	switch {
	case isGzip(magic):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("decompress (gzip): %w", err)
		}
		return z, nil
	case isZstd(magic):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("decompress (zstd): %w", err)
		}
		return z.IOReadCloser(), nil
	case isBzip2(magic):
		return io.NopCloser(bzip2.NewReader(b)), nil
	case bytes.Equal(magic, []byte("\xfd7zXZ\x00")):
		return nil, errors.New("decompress: xz, which no image format allows: make it anew with gzip or zstd")
	}
	return io.NopCloser(b), nil
}
