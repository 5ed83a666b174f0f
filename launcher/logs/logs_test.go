// SPDX-License-Identifier: Apache-2.0

package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/launcher/logs"
)

// epoch is the time of the first entry; each write is a second later.
var epoch = time.Date(2026, 11, 25, 19, 0, 0, 0, time.UTC)

// newWriter begins a log whose clock ticks with each write.
func newWriter(t testing.TB, size int64) (*logs.Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), logs.File)
	w, err := logs.NewWriter(path, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	now := epoch.Add(-time.Second)
	w.SetNow(func() time.Time {
		now = now.Add(time.Second)
		return now
	})
	return w, path
}

// read returns what a query wants, an entry in a line, with + behind partial ones.
func read(t testing.TB, path string, q logs.Query) string {
	t.Helper()
	var b strings.Builder
	if err := run(t.Context(), path, q, show(&b)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// run reads what q wants of the log at path.
func run(ctx context.Context, path string, q logs.Query, emit func(*logs.Entry) error) error {
	r, err := logs.Open(path, q)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Run(ctx, emit)
}

func show(b io.Writer) func(*logs.Entry) error {
	return func(e *logs.Entry) error {
		more := ""
		if e.Partial {
			more = "+"
		}
		_, err := fmt.Fprintf(b, "%s %s%s\n", e.Stream, e.Text, more)
		return err
	}
}

func TestLines(t *testing.T) {
	w, path := newWriter(t, 0)
	w.Write(logs.Stdout, []byte("one\ntwo\n\npass"))
	w.Write(logs.Stderr, []byte("oops\n"))
	w.Write(logs.Stdout, []byte("word: \nend\n"))
	const want = "stdout one\nstdout two\nstdout \nstdout pass+\nstderr oops\nstdout word: \nstdout end\n"
	if diff := cmp.Diff(want, read(t, path, logs.Query{})); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	b, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(b, []byte("2026-11-25T19:00:00.000000000Z stdout F one\n")) {
		t.Errorf("the file begins with %.60q, %v", b, err)
	}
	for _, tt := range []struct {
		name string
		q    logs.Query
		want string
	}{
		{"last", logs.Query{Tail: 1}, "stdout end\n"},
		{"last with parts", logs.Query{Tail: 3}, "stdout pass+\nstderr oops\nstdout word: \nstdout end\n"},
		{"more than there are", logs.Query{Tail: 100}, want},
		{"none", logs.Query{None: true}, ""},
		{"since", logs.Query{Since: epoch.Add(time.Second)}, "stderr oops\nstdout word: \nstdout end\n"},
		{"until", logs.Query{Until: epoch}, "stdout one\nstdout two\nstdout \nstdout pass+\n"},
	} {
		if diff := cmp.Diff(tt.want, read(t, path, tt.q)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := read(t, filepath.Join(t.TempDir(), "none"), logs.Query{}); got != "" {
		t.Errorf("a log that is not there has %q", got)
	}
}

// TestBound writes much more than a log may hold, in lines of all lengths.
func TestBound(t *testing.T) {
	const size = 64 << 10
	w, path := newWriter(t, size)
	for i := range 400 {
		w.Write(logs.Stdout, append(bytes.Repeat([]byte{'x'}, i*97%40000), '\n'))
		w.Write(logs.Stdout, fmt.Appendf(nil, "%d\n", i))
		for _, name := range []string{path, path + ".1"} {
			if info, err := os.Stat(name); err == nil && info.Size() > size {
				t.Fatalf("%s has %d bytes, more than %d", name, info.Size(), size)
			}
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("files %v, %v, want two", entries, err)
	}
	if got := read(t, path, logs.Query{Tail: 1}); got != "stdout 399\n" {
		t.Errorf("the last line is %q", got)
	}
}

// TestFollow reads while a log is written and replaced under the reader.
func TestFollow(t *testing.T) {
	const lines, size = 2000, 4 << 10
	w, path := newWriter(t, size)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan int)
	got := make(chan error)
	go func() {
		next := 0
		got <- run(ctx, path, logs.Query{Follow: true}, func(e *logs.Entry) error {
			if want := fmt.Sprint(next); string(e.Text) != want {
				return fmt.Errorf("line %q, want %q", e.Text, want)
			}
			next++
			if next%20 == 0 {
				seen <- next
			}
			return nil
		})
	}()
	for i := range lines {
		w.Write(logs.Stdout, fmt.Appendf(nil, "%d\n", i))
		if (i+1)%20 == 0 { // the reader keeps up: no two files are replaced meanwhile
			select {
			case <-seen:
			case err := <-got:
				t.Fatalf("after line %d: %v", i, err)
			}
		}
	}
	cancel()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestFollowEnd has the last lines written before ctx is done, and read after it.
func TestFollowEnd(t *testing.T) {
	w, path := newWriter(t, 0)
	w.Write(logs.Stdout, []byte("last\n"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b strings.Builder
	if err := run(ctx, path, logs.Query{Follow: true}, show(&b)); err != nil || b.String() != "stdout last\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

// TestSlowReader is behind by more than a file.
func TestSlowReader(t *testing.T) {
	w, path := newWriter(t, 4<<10)
	w.Write(logs.Stdout, []byte("first\n"))
	err := run(t.Context(), path, logs.Query{Follow: true}, func(*logs.Entry) error {
		for range 3 {
			w.Write(logs.Stdout, append(bytes.Repeat([]byte{'x'}, 3<<10), '\n'))
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "too slow") {
		t.Errorf("Run: %v, want that it was too slow", err)
	}
}

// TestReaderStops ends with the error of who is given the entries.
func TestReaderStops(t *testing.T) {
	w, path := newWriter(t, 0)
	w.Write(logs.Stdout, []byte("a\nb\n"))
	full := errors.New("full")
	n := 0
	err := run(t.Context(), path, logs.Query{Follow: true}, func(*logs.Entry) error {
		n++
		return full
	})
	if !errors.Is(err, full) || n != 1 {
		t.Errorf("Run: %v after %d entries", err, n)
	}
}

// TestFullDisk loses entries, says how many, and goes on.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this machine has no /dev/full: ", err)
	}
	defer full.Close()
	w, path := newWriter(t, 0)
	file := w.SetFile(full)
	w.Write(logs.Stdout, []byte("a\nb\n"))
	if w.Lost() != 2 {
		t.Errorf("%d entries are lost, want 2", w.Lost())
	}
	w.SetFile(file)
	w.Write(logs.Stdout, []byte("c\n"))
	const want = "stderr slipway: 2 entries of the log are lost\nstdout c\n"
	if diff := cmp.Diff(want, read(t, path, logs.Query{})); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// TestHostileLog has lines that are no entries: they are left out.
func TestHostileLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), logs.File)
	text := "\n\x00\nx stdout F a\n2026-11-25T19:00:00Z stdin F a\n2026-11-25T19:00:00Z stdout X a\n" +
		strings.Repeat("y", 100<<10) + "\n2026-11-25T19:00:00Z stdout F good\n2026-11-25T19:00:00Z stdout F cut"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path, logs.Query{}); got != "stdout good\n" {
		t.Errorf("log %q", got)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte("2026-11-25T19:06:45.123456789Z stdout F the line"))
	f.Add([]byte("2026-11-25T19:06:45Z stderr P "))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := logs.ParseEntry(line)
		if err != nil || bytes.ContainsRune(line, '\n') || e.Time.Year() < 0 || e.Time.Year() > 9999 {
			return
		}
		again, err := logs.ParseEntry(bytes.TrimSuffix(logs.AppendEntry(nil, &e), []byte{'\n'}))
		if err != nil || !again.Time.Equal(e.Time) || again.Stream != e.Stream || again.Partial != e.Partial || !bytes.Equal(again.Text, e.Text) {
			t.Errorf("%q became %+v, want %+v (%v)", line, again, e, err)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w, _ := newWriter(b, 0)
	chunk := bytes.Repeat([]byte("a line of an ordinary length, as programs write it\n"), 300)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		w.Write(logs.Stdout, chunk)
	}
}
