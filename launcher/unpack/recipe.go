// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A recipe is an archive without what is in the files of the layer: a zstd stream of
// parts, each a kind, a length as a uvarint (encoding/binary), and as many bytes.
// Bytes of the archive follow as they are; of a file there is its size, as a uvarint
// before the length, and its path. A size of zero is that of a file without content
// in the layer, a hard link among them: it tells only that there is a file of that path
// at this point. The last kind is the path of a directory that was put aside at this
// point, with a slash behind it.
const (
	partBytes = 'b'
	partFile  = 'f'
	partAside = 'a'
)

// recordSize is the size in bytes of the pieces in which bytes of the archive are
// recorded.
const recordSize = 32 << 10

// A recorder writes a recipe. Of errors the first is kept for close. A nil writer
// makes one that does nothing.
type recorder struct {
	z   *zstd.Encoder
	buf []byte
	err error
}

func newRecorder(w io.Writer) *recorder {
	r := &recorder{}
	if w == nil {
		return r
	}
	// One at a time, fastest: headers of an archive are nearly nothing anyway.
	r.z, r.err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	r.buf = make([]byte, 0, recordSize)
	return r
}

// bytes records bytes of the archive.
func (r *recorder) bytes(p []byte) {
	if r.z == nil {
		return
	}
	if len(r.buf)+len(p) > recordSize {
		r.flush()
	}
	if len(p) > recordSize {
		r.part(partBytes, p)
		return
	}
	r.buf = append(r.buf, p...)
}

// file records that the content of the file p comes next. The content of a sparse
// one is recorded as bytes, since it is another in the archive.
func (r *recorder) file(p string, h *tar.Header) {
	if r.z == nil {
		return
	}
	size := h.Size
	if h.Typeflag == tar.TypeLink || sparse(h) {
		size = 0
	}
	r.flush()
	r.part(partFile, []byte(p), uint64(size))
}

// aside records that the directory p was put aside.
func (r *recorder) aside(p string) {
	if r.z == nil {
		return
	}
	r.flush()
	r.part(partAside, []byte(p))
}

func (r *recorder) flush() {
	if len(r.buf) > 0 {
		r.part(partBytes, r.buf)
		r.buf = r.buf[:0]
	}
}

// part writes a part.
func (r *recorder) part(kind byte, p []byte, numbers ...uint64) {
	if r.err != nil {
		return
	}
	head := []byte{kind}
	for _, n := range append(numbers, uint64(len(p))) {
		head = binary.AppendUvarint(head, n)
	}
	if _, r.err = r.z.Write(head); r.err == nil {
		_, r.err = r.z.Write(p)
	}
}

// close completes the recipe.
func (r *recorder) close() error {
	if r.z == nil {
		return nil
	}
	r.flush()
	if err := r.z.Close(); r.err == nil {
		r.err = err
	}
	if r.err != nil {
		return fmt.Errorf("write the recipe: %w", r.err)
	}
	return nil
}

// A recordedReader records what is read through it, unless it is muted.
type recordedReader struct {
	r      io.Reader
	record *recorder
	muted  bool
}

// Read implements io.Reader.
func (t *recordedReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if !t.muted {
		t.record.bytes(p[:n])
	}
	return n, err
}

// unrecorded reads from r, which reads through t, without recording it.
type unrecorded struct {
	t *recordedReader
	r io.Reader
}

// Read implements io.Reader.
func (u *unrecorded) Read(p []byte) (int, error) {
	u.t.muted = true
	n, err := u.r.Read(p)
	u.t.muted = false
	return n, err
}
