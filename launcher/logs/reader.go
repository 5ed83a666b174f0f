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
	path string
	q    Query
	skip int // lines that are not wanted yet
}

// NewReader returns a Reader of the log at path for what q wants.
func NewReader(path string, q Query) *Reader { return &Reader{path: path, q: q} }

// Run calls emit for each entry that is wanted. The entry's text is valid until
// emit returns, whose error ends Run. With Follow, Run goes on until it has read
// all that there was when ctx was done.
func (r *Reader) Run(ctx context.Context, emit func(*Entry) error) error {
	var tell *notifier
	if r.q.Follow {
		var err error
		if tell, err = newNotifier(r.path); err != nil {
			return err
		}
		defer tell.close()
	}
	old, cur, err := r.open()
	if err != nil {
		return err
	}
	defer func() { closeFiles(old, cur) }()
	if err := r.seek(old, cur); err != nil {
		return err
	}
	var src source
	if old != nil {
		if err := r.drain(old, &src, emit); err != nil {
			return err
		}
	}
	for {
		done := !r.q.Follow || ctx.Err() != nil
		if cur == nil {
			if cur, err = openLog(r.path); err != nil {
				return err
			}
		}
		if cur != nil {
			if err := r.drain(cur, &src, emit); err != nil {
				return err
			}
			next, err := r.next(cur)
			if err != nil {
				return err
			}
			if next != nil {
				// What was written between the two looks is still the old file's.
				if err := r.drain(cur, &src, emit); err != nil {
					closeFiles(next)
					return err
				}
				cur.Close()
				cur = next
				continue
			}
		}
		if done {
			return nil
		}
		tell.wait(ctx)
	}
}

// open opens the old file and the one that is written, either nil if it is not
// there, so that no rotation comes between the two.
func (r *Reader) open() (old, cur *os.File, err error) {
	for {
		if cur, err = openLog(r.path); err != nil {
			return nil, nil, err
		}
		if old, err = openLog(r.path + oldSuffix); err != nil {
			closeFiles(cur)
			return nil, nil, err
		}
		if cur == nil {
			return old, nil, nil
		}
		again, err := os.Stat(r.path)
		if info, ierr := cur.Stat(); err == nil && ierr == nil && os.SameFile(again, info) {
			return old, cur, nil
		}
		closeFiles(old, cur)
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
func (r *Reader) seek(files ...*os.File) error {
	if r.q.Tail <= 0 && !r.q.None {
		return nil
	}
	lines, partial := 0, false
	for _, f := range files {
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
func (r *Reader) drain(f *os.File, src *source, emit func(*Entry) error) error {
	return src.each(f, func(e *Entry) error {
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
