// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/slipway-net/slipway/launcher/logs"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/spf13/pflag"
)

const (
	logsSynopsis = "logs [flags] CONTAINER"
	logsAbout    = `Prints what a detached CONTAINER has written to its standard output and error, to
ours. What one in the foreground writes goes to its terminal alone.`
)

// logsFlags are the flags of `slipway logs`.
type logsFlags struct {
	follow       bool
	timestamps   bool
	supervisor   bool
	tail         string
	since, until string
}

func (f *logsFlags) add(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.follow, "follow", "f", false, "go on until the container ends")
	fs.BoolVarP(&f.timestamps, "timestamps", "t", false, "print the time before each line")
	fs.StringVarP(&f.tail, "tail", "n", "all", "print the last `N` lines only, or all")
	fs.StringVar(&f.since, "since", "", "print what was written since `TIME`: 2026-11-25T19:00:00Z, or a duration ago such as 10m")
	fs.StringVar(&f.until, "until", "", "print what was written before `TIME`")
	fs.BoolVar(&f.supervisor, "supervisor", false, "print what the container's supervisor has to say, instead")
}

// runLogs is `slipway logs`.
func runLogs(args []string, stdout, stderr io.Writer) int {
	var f logsFlags
	fs := newFlagSet("logs")
	f.add(fs)
	if code, over := parseFlags(fs, args, logsSynopsis, logsAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, logsSynopsis, 1, 1); err != nil {
		return report(stderr, err)
	}
	err := f.run(fs.Arg(0), stdout, stderr)
	if errors.Is(err, syscall.EPIPE) {
		err = nil // the reader has seen enough
	}
	return report(stderr, err)
}

func (f *logsFlags) run(word string, stdout, stderr io.Writer) error {
	q, err := f.query(time.Now())
	if err != nil {
		return err
	}
	store, c, err := findContainer(word)
	if err != nil {
		return err
	}
	if !c.Detached {
		return fmt.Errorf("container %s was started in the foreground: what it writes goes to its terminal", c.DisplayName())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel, err := untilEnd(ctx, store, c)
	if err != nil {
		return err
	}
	defer cancel()
	name := logs.File
	if f.supervisor {
		name = supervisorLog
	}
	p := printer{stdout: stdout, stderr: stderr, timestamps: f.timestamps}
	r, err := logs.Open(filepath.Join(store.LogDir(&c.Record), name), q)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.Run(ctx, p.print)
}

// untilEnd returns a context that is done when the container has ended.
func untilEnd(ctx context.Context, s *state.Store, c *state.Container) (context.Context, context.CancelFunc, error) {
	w, err := s.Watch(c)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		_, _ = w.Wait(ctx)
	}()
	return ctx, func() {
		cancel()
		<-done
		w.Close()
	}, nil
}

// query is what the flags ask for.
func (f *logsFlags) query(now time.Time) (logs.Query, error) {
	q := logs.Query{Follow: f.follow}
	if f.tail != "all" {
		n, err := strconv.Atoi(f.tail)
		if err != nil || n < 0 {
			return q, fmt.Errorf("%w: --tail %q: want a number of lines, or all", errUsage, f.tail)
		}
		q.Tail, q.None = n, n == 0
	}
	for _, b := range []struct {
		flag, word string
		t          *time.Time
	}{{"since", f.since, &q.Since}, {"until", f.until, &q.Until}} {
		if b.word == "" {
			continue
		}
		var err error
		if *b.t, err = parseTime(b.word, now); err != nil {
			return q, fmt.Errorf("%w: --%s %q: want a time such as 2026-11-25T19:00:00Z, seconds since 1970, or a duration such as 10m", errUsage, b.flag, b.word)
		}
	}
	return q, nil
}

// parseTime reads a time of RFC 3339, with or without its zone, a date, a number of
// seconds since 1970, or a duration before now.
func parseTime(s string, now time.Time) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("no time")
}

// A printer prints entries of a log.
type printer struct {
	stdout, stderr io.Writer
	timestamps     bool
	inLine         [2]bool // a line of the stream is not at its end
	buf            []byte
}

// print prints an entry to the stream it is of.
func (p *printer) print(e *logs.Entry) error {
	w, i := p.stdout, 0
	if e.Stream == logs.Stderr {
		w, i = p.stderr, 1
	}
	p.buf = p.buf[:0]
	if p.timestamps && !p.inLine[i] {
		p.buf = e.Time.AppendFormat(p.buf, time.RFC3339Nano)
		p.buf = append(p.buf, ' ')
	}
	p.buf = append(p.buf, e.Text...)
	if p.inLine[i] = e.Partial; !e.Partial {
		p.buf = append(p.buf, '\n')
	}
	_, err := w.Write(p.buf)
	return err
}
