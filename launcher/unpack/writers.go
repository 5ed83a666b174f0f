// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// smallFile is the size in bytes up to which a file is read whole and given to a
// writer. Names are made in the order of the archive all the same, so that no writer
// needs to know of another's files.
const smallFile = 256 << 10

// spareBuffers is the number of buffers beyond those that the writers are busy with.
const spareBuffers = 4

// writers fill files: small ones in goroutines of their own, others in the caller's.
// One goroutine uses them.
type writers struct {
	jobs chan job
	free chan []byte
	work sync.WaitGroup

	mu   sync.Mutex
	err  error // the first
	left int64 // extended attributes that could not be set
}

// A job is a file and all of its content.
type job struct {
	f    *regular
	data []byte
}

// newWriters starts n writers, which end with wait.
func newWriters(n int) *writers {
	w := &writers{jobs: make(chan job, spareBuffers), free: make(chan []byte, n+spareBuffers)}
	for range cap(w.free) {
		w.free <- nil // made when it is needed
	}
	for range n {
		w.work.Go(w.run)
	}
	return w
}

func (w *writers) run() {
	for j := range w.jobs {
		w.end(j.f, j.f.write(j.data, 0))
		w.free <- j.data // has room for every buffer
	}
}

// add writes a file of no more than smallFile bytes, later. It takes over f.
func (w *writers) add(f *regular, content io.Reader) error {
	buf := <-w.free
	if buf == nil {
		buf = make([]byte, smallFile)
	}
	buf = buf[:smallFile]
	if _, err := io.ReadFull(content, buf[:f.size]); err != nil {
		unix.Close(f.fd)
		w.free <- buf
		return fmt.Errorf("read the archive: %w", eof(err))
	}
	w.jobs <- job{f, buf[:f.size]}
	return nil
}

// inline writes a file of any size. It takes over f.
func (w *writers) inline(f *regular, content io.Reader) error {
	buf := <-w.free
	if buf == nil {
		buf = make([]byte, smallFile)
	}
	defer func() { w.free <- buf }()
	var err error
	for off := int64(0); off < f.size && err == nil; {
		n := min(smallFile, f.size-off)
		if _, err = io.ReadFull(content, buf[:n]); err != nil {
			err = fmt.Errorf("read the archive: %w", eof(err))
			break
		}
		err = f.write(buf[:n], off)
		off += n
	}
	w.end(f, err)
	return err
}

// end finishes a file unless it could not be written, and closes it.
func (w *writers) end(f *regular, err error) {
	var left int64
	if err == nil {
		left, err = f.finish()
	}
	unix.Close(f.fd)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left += left
	if w.err == nil {
		w.err = err
	}
}

// failed returns the first error of a file so far.
func (w *writers) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// wait ends the writers when all files are written, and returns the first error.
func (w *writers) wait() error {
	close(w.jobs)
	w.work.Wait()
	return w.err
}

// eof is an error of io.ReadFull where the end is unexpected wherever it comes.
func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
