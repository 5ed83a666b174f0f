// SPDX-License-Identifier: Apache-2.0

package logs

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// A Stream is where an entry was written.
type Stream string

// The streams of a container. With a terminal there is only Stdout.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// An Entry is one line, or a part of one.
type Entry struct {
	Time    time.Time
	Stream  Stream
	Partial bool   // more of the line follows
	Text    []byte // without the newline
}

// timeLayout is RFC 3339 with all nine digits, so that lines stand below each other.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// Tags of entries.
const (
	tagFull    = "F"
	tagPartial = "P"
)

// errNoEntry is the error of a line that is none.
var errNoEntry = errors.New("not an entry of a log")

// appendEntry appends the entry as it stands in the file, with its newline.
func appendEntry(b []byte, e *Entry) []byte {
	b = e.Time.UTC().AppendFormat(b, timeLayout)
	b = append(b, ' ')
	b = append(b, e.Stream...)
	b = append(b, ' ')
	if e.Partial {
		b = append(b, tagPartial...)
	} else {
		b = append(b, tagFull...)
	}
	b = append(b, ' ')
	b = append(b, e.Text...)
	return append(b, '\n')
}

// parseEntry reads a line without its newline. The text is part of the line.
func parseEntry(line []byte) (Entry, error) {
	stamp, rest, _ := bytes.Cut(line, []byte{' '})
	stream, rest, _ := bytes.Cut(rest, []byte{' '})
	tag, text, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return Entry{}, errNoEntry
	}
	e := Entry{Stream: Stream(stream), Text: text}
	var err error
	if e.Time, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errNoEntry, err)
	}
	switch {
	case e.Stream != Stdout && e.Stream != Stderr:
		return Entry{}, fmt.Errorf("%w: stream %q", errNoEntry, stream)
	case string(tag) == tagPartial:
		e.Partial = true
	case string(tag) != tagFull:
		return Entry{}, fmt.Errorf("%w: tag %q", errNoEntry, tag)
	}
	return e, nil
}
