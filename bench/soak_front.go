// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// runSoak soaks one slipway and prints its samples and the verdict to out. It
// returns an error where a check failed or none was made.
func runSoak(ctx context.Context, o Options, out io.Writer) error {
	f := &front{opts: o, out: out, progress: newProgress(io.Discard, 0), home: newPlace()}
	defer f.cleanup()
	f.report.Plan = o.Plan
	cred, err := f.prepare()
	if err != nil {
		return err
	}
	m := describeMachine()
	fmt.Fprintf(out, "soak of %s, MTU %d, %d cores, Linux %s\n\n%s\n", o.Plan.Soak, o.Plan.MTUs[0], m.Cores, m.Kernel, soakHeader)
	if err := f.runStages(ctx, cred); err != nil {
		return err
	}
	if f.fatal != "" {
		return fmt.Errorf("the soak failed: %s", f.fatal)
	}
	if f.checks == nil {
		return errors.New("the soak was interrupted: no verdict")
	}
	fmt.Fprintf(out, "\n%s", verdict(f.checks))
	if !passed(f.checks) {
		return errors.New("the soak failed")
	}
	return nil
}

// The columns of a soak's table; the header's widths are the row's.
const (
	soakHeader = "phase   time   fds  goroutines    tcp    udp  other  RSS kB   CPU s  streams MB   conns   udp ok   dns ok  failed"
	soakRow    = "%-6s %5s %5d %11d %6d %6d %6d %7d %7.1f %11.0f %7d %8d %8d %7d\n"
)

// sample prints one line of the table.
func (f *front) sample(s soakSample) {
	c := s.Counts
	fmt.Fprintf(f.out, soakRow, s.Phase, fmt.Sprintf("%.0fs", max(0, s.At).Round(time.Second).Seconds()), s.FDs, s.Goroutines, s.TCP, s.UDP, s.Other, s.RSS, s.CPU,
		float64(c.Bytes)/1e6, c.Conns, c.UDP, c.DNS, c.Failed)
}

// verdict returns one line for each check and one for all.
func verdict(checks []soakCheck) string {
	var b strings.Builder
	for _, c := range checks {
		mark := "ok  "
		if !c.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(&b, "%s  %-24s %s (want %s)\n", mark, c.Name, c.Got, c.Want)
	}
	if passed(checks) {
		b.WriteString("PASS\n")
	} else {
		b.WriteString("FAIL\n")
	}
	return b.String()
}
