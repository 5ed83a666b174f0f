// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

func TestLogWriterKeepsOrder(t *testing.T) {
	var b bytes.Buffer
	l := newLogWriter(&b)
	for _, s := range []string{"one\n", "two\n", "three\n"} {
		l.Write([]byte(s))
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l.Write([]byte("late\n"))
	if got, want := b.String(), "one\ntwo\nthree\n"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestLogWriterNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe() // nobody reads
		l := newLogWriter(w)
		const lines = 3 * logBacklog
		for range lines {
			l.Write([]byte("line\n"))
		}
		l.Close() // returns all the same
		go func() { synctest.Wait(); r.Close() }()
		<-l.done
	})
}

func TestLogWriterSaysWhatItLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		l := newLogWriter(w)
		l.Write([]byte("first\n"))
		synctest.Wait() // the writer has it and waits for a reader
		for range logBacklog + 5 {
			l.Write([]byte("line\n"))
		}
		got := make(chan string)
		go func() {
			b, _ := io.ReadAll(r)
			got <- string(b)
		}()
		synctest.Wait() // all read
		l.Write([]byte("last\n"))
		l.Close()
		w.Close()
		s := <-got
		if want := "slipway: 5 log lines left out: their reader was too slow\nlast\n"; !strings.HasSuffix(s, want) {
			t.Errorf("the log ends with %q, want %q", s[max(0, len(s)-100):], want)
		}
	})
}
