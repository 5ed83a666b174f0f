// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// File is the name of a log in its container's directory.
const File = "log"

// DefaultSize is the size in bytes at which a file of a log is replaced. With the
// old one, a log takes twice as much.
const DefaultSize = 10 << 20

// oldSuffix is behind the name of the file before.
const oldSuffix = ".1"

// maxText is the longest text of an entry in bytes; a longer line is split.
const maxText = 16 << 10

// A Writer writes a log. It may be used concurrently.
type Writer struct {
	path string
	size int64
	now  func() time.Time

	mu   sync.Mutex
	f    *os.File
	at   int64 // bytes in f
	buf  []byte
	lost int // entries that could not be written
}

// NewWriter opens the log at path to go on with it. A file is replaced at size
// bytes; 0 is DefaultSize.
func NewWriter(path string, size int64) (*Writer, error) {
	if size == 0 {
		size = DefaultSize
	}
	w := &Writer{path: path, size: size, now: time.Now}
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

// open opens the file, to append to it.
func (w *Writer) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open the log: %w", err)
	}
	w.f, w.at = f, info.Size()
	return nil
}

// Copy writes what r has, until its end, as lines of the stream.
func (w *Writer) Copy(s Stream, r io.Reader) error {
	buf := make([]byte, maxText)
	for {
		n, err := r.Read(buf)
		w.Write(s, buf[:n])
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the container's %s: %w", s, err)
		}
	}
}

// Write writes text of the stream: an entry for each line, and one for a beginning
// of a line at its end. It never fails: see Lost.
func (w *Writer) Write(s Stream, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := Entry{Time: w.now(), Stream: s}
	for len(text) > 0 {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		if len(line) > maxText {
			line, rest, whole = text[:maxText], text[maxText:], false
		}
		e.Text, e.Partial = line, !whole
		w.append(&e)
		text = rest
	}
	w.flush()
}

// append puts an entry into the buffer, and begins a new file where it has no room.
func (w *Writer) append(e *Entry) {
	was := len(w.buf)
	w.buf = appendEntry(w.buf, e)
	if w.at+int64(len(w.buf)) <= w.size || w.at == 0 && was == 0 {
		return
	}
	last := append([]byte(nil), w.buf[was:]...)
	w.buf = w.buf[:was]
	w.flush()
	w.rotate()
	w.buf = append(w.buf, last...)
}

// flush writes the buffer. A write that is cut short is taken back, so that a file
// consists of whole entries.
func (w *Writer) flush() {
	if len(w.buf) == 0 {
		return
	}
	if w.lost > 0 {
		note := Entry{Time: w.now(), Stream: Stderr, Text: fmt.Appendf(nil, "slipway: %d entries of the log are lost", w.lost)}
		w.buf = append(appendEntry(nil, &note), w.buf...)
	}
	_, err := w.f.Write(w.buf)
	if err == nil {
		w.at += int64(len(w.buf))
		w.lost = 0
	} else {
		w.lost += bytes.Count(w.buf, []byte{'\n'})
		_ = w.f.Truncate(w.at) // what cannot be taken back is no entry to a reader
	}
	w.buf = w.buf[:0]
}

// rotate begins a new file. If that fails the old one goes on, emptied.
func (w *Writer) rotate() {
	old := w.f
	if err := os.Rename(w.path, w.path+oldSuffix); err == nil && w.open() == nil {
		old.Close()
		return
	}
	w.f = old
	if old.Truncate(0) == nil {
		w.at = 0
	}
}

// Lost returns how many entries could not be written since the last that was.
func (w *Writer) Lost() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// Close closes the file. Nothing may be written after it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.f.Close()
}
