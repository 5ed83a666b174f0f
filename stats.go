// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/slipway-net/slipway/launcher/resources"
	"github.com/slipway-net/slipway/launcher/state"
)

const (
	statsSynopsis = "stats [flags] [CONTAINER...]"
	statsAbout    = `Shows what each CONTAINER, or each that runs, uses, again and again. The processor
time that CPU tells of is a share of one processor, since the last look; at the
first, since the container's start.`
)

// clearScreen makes a terminal begin anew (console_codes(4)).
const clearScreen = "\x1b[H\x1b[2J"

// A stat is a line of `slipway stats`.
type stat struct {
	ID         string  `json:"id"`
	Name       string  `json:"name,omitempty"`
	CPUPercent float64 `json:"cpu_percent"`
	*resources.Usage
}

// runStats is `slipway stats`.
func runStats(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("stats")
	once := fs.Bool("no-stream", false, "look once, and end")
	asJSON := fs.Bool("json", false, "print JSON, a list at each look")
	interval := fs.Duration("interval", 2*time.Second, "`TIME` between two looks")
	if code, over := parseFlags(fs, args, statsSynopsis, statsAbout, stdout, stderr); over {
		return code
	}
	if *interval <= 0 {
		return report(stderr, fmt.Errorf("%w: --interval %v: want a time above zero", errUsage, *interval))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	m := meter{words: fs.Args(), last: map[string]sample{}}
	tick := time.NewTicker(*interval)
	defer tick.Stop()
	for {
		stats, err := m.look(time.Now())
		if err == nil {
			err = showStats(stdout, stats, *asJSON, !*once)
		}
		if err != nil || *once {
			return report(stderr, err)
		}
		select {
		case <-ctx.Done():
			return exitOK
		case <-tick.C:
		}
	}
}

func showStats(w io.Writer, stats []stat, asJSON, again bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(stats)
	}
	if again {
		fmt.Fprint(w, clearScreen)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tCPU\tMEMORY\tPROCESSES\tRECEIVED\tSENT")
	for _, s := range stats {
		fmt.Fprintf(t, "%.*s\t%s\t%.1f%%\t%s\t%d\t%s\t%s\n", state.ShortID, s.ID, orDash(s.Name), s.CPUPercent,
			byteSize(s.Memory), s.Processes, byteSize(s.Received), byteSize(s.Sent))
	}
	return t.Flush()
}

// A sample is the processor time that a container had used at a time.
type sample struct {
	at  time.Time
	cpu time.Duration
}

// A meter looks at containers, and remembers the last look.
type meter struct {
	words []string // the containers; none are all
	last  map[string]sample
}

// look returns what the containers use now.
func (m *meter) look(now time.Time) ([]stat, error) {
	cs, err := m.containers()
	if err != nil {
		return nil, err
	}
	var inits []int
	for _, c := range cs {
		inits = append(inits, c.Init.PID)
	}
	used, err := resources.Of(inits)
	if err != nil {
		return nil, err
	}
	stats := []stat{}
	for i, c := range cs {
		if used[i] == nil {
			continue // it has just ended
		}
		s := stat{ID: c.ID, Name: c.Name, Usage: used[i]}
		before, ok := m.last[c.ID]
		if !ok {
			before = sample{at: c.Started}
		}
		if d := now.Sub(before.at); d > 0 {
			s.CPUPercent = max(0, 100*float64(s.CPU-before.cpu)/float64(d))
		}
		m.last[c.ID] = sample{now, s.CPU}
		stats = append(stats, s)
	}
	return stats, nil
}

// containers returns those that run.
func (m *meter) containers() ([]*state.Container, error) {
	if len(m.words) == 0 {
		store, err := openStore()
		if err != nil {
			return nil, err
		}
		all, err := store.List()
		return slices.DeleteFunc(all, func(c *state.Container) bool { return c.Status != state.Running }), err
	}
	var cs []*state.Container
	err := eachContainer(m.words, func(_ *state.Store, c *state.Container) error {
		if c.Status != state.Running {
			return errNotRunning(c)
		}
		cs = append(cs, c)
		return nil
	})
	return cs, errors.Join(err)
}

// byteSize writes a number of bytes in the largest unit of 1024 that leaves one.
func byteSize(n int64) string {
	const units = "KMGTP"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/(1<<10), 0
	for f >= 1<<10 && i < len(units)-1 {
		f, i = f/(1<<10), i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}
