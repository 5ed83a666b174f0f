// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// A Query says which entries of a log are wanted. The zero Query wants all.
type Query struct {
	// Tail is how many of the last lines are wanted; negative means all, as 0 does
	// in the zero Query: see None.
	Tail int
	// None wants nothing of what is there already.
	None bool
	// Since and Until bound the time of entries, both included; zero is no bound.
	Since, Until time.Time
	// Follow goes on with what is written later.
	Follow bool
}

// errGap says that entries were overwritten before they were read.
var errGap = errors.New("the reader was too slow: entries of the log are missing")

// A Reader reads the log at a path. It is for one goroutine.
type Reader struct {
	path     string
	q        Query
	skip     int // lines that are not wanted yet
	old, cur *os.File
	tell     *notifier // nil unless it follows
	src      source
}

// Open opens the log at path for what q wants; what is there already is what is there
// now. The caller closes the Reader. A log that is not there is empty.
func Open(path string, q Query) (_ *Reader, err error) {
	r := &Reader{path: path, q: q}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if q.Follow {
		if r.tell, err = newNotifier(path); err != nil {
			return nil, err
		}
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, r.seek()
}

// Close closes the log.
func (r *Reader) Close() {
	closeFiles(r.old, r.cur)
	r.old, r.cur = nil, nil
	if r.tell != nil {
		r.tell.close()
	}
}

// Run calls emit for each entry that is wanted. The entry's text is valid until
// emit returns, whose error ends Run. With Follow, Run goes on until it has read
// all that there was when ctx was done.
func (r *Reader) Run(ctx context.Context, emit func(*Entry) error) error {
	if r.old != nil {
		if err := r.drain(r.old, emit); err != nil {
			return err
		}
	}
	for {
		done := !r.q.Follow || ctx.Err() != nil
		more, err := r.look(emit)
		if err != nil {
			return err
		}
		switch {
		case more:
		case done:
			return nil
		default:
			r.tell.wait(ctx)
		}
	}
}

// look emits what there is of the file that is written, and reports whether another
// has taken its place.
func (r *Reader) look(emit func(*Entry) error) (more bool, err error) {
	if r.cur == nil {
		if r.cur, err = openLog(r.path); r.cur == nil || err != nil {
			return false, err
		}
	}
	if err := r.drain(r.cur, emit); err != nil {
		return false, err
	}
	next, err := r.next(r.cur)
	if next == nil || err != nil {
		return false, err
	}
	// What was written between the two looks is still the old file's.
	if err := r.drain(r.cur, emit); err != nil {
		closeFiles(next)
		return false, err
	}
	r.cur.Close()
	r.cur = next
	return true, nil
}

// open opens the old file and the one that is written, either nil if it is not
// there, so that no rotation comes between the two.
func (r *Reader) open() (err error) {
	for {
		if r.cur, err = openLog(r.path); err != nil {
			return err
		}
		if r.old, err = openLog(r.path + oldSuffix); err != nil || r.cur == nil {
			return err
		}
		again, err := os.Stat(r.path)
		if info, ierr := r.cur.Stat(); err == nil && ierr == nil && os.SameFile(again, info) {
			return nil
		}
		closeFiles(r.old, r.cur)
	}
}

// next returns the file that has taken the place of cur, or nil. If it is not
// the one right after cur, that is an error.
func (r *Reader) next(cur *os.File) (*os.File, error) {
	mine, err := cur.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	f, err := openLog(r.path)
	if f == nil || err != nil {
		return nil, err
	}
	if now, err := f.Stat(); err != nil || os.SameFile(mine, now) {
		f.Close()
		return nil, err
	}
	if before, err := os.Stat(r.path + oldSuffix); err != nil || !os.SameFile(mine, before) {
		f.Close()
		return nil, errGap
	}
	return f, nil
}

// seek counts the lines that are there, to know how many to leave out.
func (r *Reader) seek() error {
	if r.q.Tail <= 0 && !r.q.None {
		return nil
	}
	lines, partial := 0, false
	for _, f := range []*os.File{r.old, r.cur} {
		if f == nil {
			continue
		}
		var src source
		err := src.each(f, func(e *Entry) error {
			partial = e.Partial
			if !e.Partial {
				lines++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	switch {
	case r.q.None:
		r.skip = lines
	default:
		if partial {
			lines++ // a line without an end is one of the last
		}
		r.skip = max(0, lines-r.q.Tail)
	}
	return nil
}

// drain emits what f has more, as far as it is wanted.
func (r *Reader) drain(f *os.File, emit func(*Entry) error) error {
	return r.src.each(f, func(e *Entry) error {
		if r.skip > 0 {
			if !e.Partial {
				r.skip--
			}
			return nil
		}
		if !r.q.Since.IsZero() && e.Time.Before(r.q.Since) || !r.q.Until.IsZero() && e.Time.After(r.q.Until) {
			return nil
		}
		return emit(e)
	})
}

// A source reads entries of a file that may grow meanwhile.
type source struct{ rest []byte }

// each calls do for each entry from f's offset to its end. The beginning of an
// entry is kept until the rest is there. A line that is no entry is left out.
func (s *source) each(f *os.File, do func(*Entry) error) error {
	b := bufio.NewReaderSize(f, 2*maxText)
	for {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue // longer than any entry
		}
		if err != nil {
			s.rest = append(s.rest, line...)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read the log: %w", err)
		}
		if len(s.rest) > 0 {
			line = append(s.rest, line...)
			s.rest = s.rest[:0]
		}
		if e, err := parseEntry(bytes.TrimSuffix(line, []byte{'\n'})); err == nil {
			if err := do(&e); err != nil {
				return err
			}
		}
	}
}

// openLog opens a file of a log, and returns nil if it is not there.
func openLog(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return f, nil
}

func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
