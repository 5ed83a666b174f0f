// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/slipway-net/slipway/launcher/state"
	"github.com/spf13/pflag"
)

const (
	psSynopsis = "ps [flags]"
	psAbout    = "Lists the containers that run, oldest first."
)

// psFlags are the flags of `slipway ps`.
type psFlags struct {
	all     bool
	quiet   bool
	noTrunc bool
	json    bool
	format  string
	filters []string
}

func (f *psFlags) add(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.all, "all", "a", false, "list those that do not run, too")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print ids only")
	fs.BoolVar(&f.noTrunc, "no-trunc", false, "print whole ids and commands")
	fs.BoolVar(&f.json, "json", false, "print JSON")
	fs.StringVar(&f.format, "format", "table", "`FORMAT` to print: table or json")
	fs.StringArrayVarP(&f.filters, "filter", "f", nil,
		"list those with `KEY=VALUE` only: id, name, status, image or label (repeatable; of one key any, of several all must hold)")
}

// runPs is `slipway ps`.
func runPs(args []string, stdout, stderr io.Writer) int {
	var f psFlags
	fs := newFlagSet("ps")
	f.add(fs)
	if code, over := parseFlags(fs, args, psSynopsis, psAbout, stdout, stderr); over {
		return code
	}
	return report(stderr, f.run(fs, stdout))
}

func (f *psFlags) run(fs *pflag.FlagSet, stdout io.Writer) error {
	switch {
	case fs.NArg() > 0:
		return fmt.Errorf("%w: ps takes no arguments: to look for a container give --filter name=%s", errUsage, fs.Arg(0))
	case f.format != "table" && f.format != "json":
		return fmt.Errorf("%w: --format %q: want table or json", errUsage, f.format)
	}
	wanted, byStatus, err := parseFilters(f.filters)
	if err != nil {
		return err
	}
	store, err := openStore()
	if err != nil {
		return err
	}
	all, lerr := store.List()
	shown := slices.DeleteFunc(all, func(c *state.Container) bool {
		return !wanted(c) || c.Status == state.Exited && !f.all && !byStatus
	})
	switch {
	case f.quiet:
		for _, c := range shown {
			fmt.Fprintln(stdout, f.id(c))
		}
	case f.json || f.format == "json":
		err = json.NewEncoder(stdout).Encode(append([]*state.Container{}, shown...))
	default:
		err = f.table(stdout, shown)
	}
	return errors.Join(lerr, err)
}

// id is the container's id as it is to be shown.
func (f *psFlags) id(c *state.Container) string {
	if f.noTrunc {
		return c.ID
	}
	return c.Short()
}

// shownCommand is how much of a command a line of the table has, in characters.
const shownCommand = 30

func (f *psFlags) table(w io.Writer, cs []*state.Container) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS")
	now := time.Now()
	for _, c := range cs {
		command := []rune(printable(strings.Join(c.Args, " ")))
		if !f.noTrunc && len(command) > shownCommand {
			command = append(command[:shownCommand-1], '…')
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s ago\t%s\t%s\n", f.id(c), orDash(c.Name), orDash(printable(c.Image)), string(command),
			age(now.Sub(c.Created)), statusText(c, now), orDash(strings.Join(c.Ports, ", ")))
	}
	return t.Flush()
}

// statusText tells the status and since when.
func statusText(c *state.Container, now time.Time) string {
	switch {
	case c.Status == state.Running:
		return "running for " + age(now.Sub(c.Started))
	case c.Exit == nil:
		return string(c.Status)
	case c.Exit.Finished.IsZero():
		return fmt.Sprintf("exited (%d)", c.Exit.Code)
	}
	return fmt.Sprintf("exited (%d) %s ago", c.Exit.Code, age(now.Sub(c.Exit.Finished)))
}

// age is a duration in the largest unit that leaves a number above one.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{day, "days"}, {time.Hour, "hours"}, {time.Minute, "minutes"}} {
		if d >= 2*u.of {
			return fmt.Sprintf("%d %s", d/u.of, u.name)
		}
	}
	return fmt.Sprintf("%d s", max(0, d/time.Second))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printable leaves out of s what would do something to a terminal or to a table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}

// parseFilters returns what tells whether a container has what the words want, and
// whether they want a status.
func parseFilters(words []string) (wanted func(*state.Container) bool, byStatus bool, err error) {
	values := map[string][]string{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		switch key {
		case "id", "name", "status", "image", "label":
		default:
			ok = false
		}
		if !ok || value == "" {
			return nil, false, fmt.Errorf("%w: --filter %q: want id, name, status, image or label, and =VALUE", errUsage, w)
		}
		values[key] = append(values[key], value)
	}
	return func(c *state.Container) bool {
		for key, any := range values {
			if !slices.ContainsFunc(any, func(v string) bool { return has(c, key, v) }) {
				return false
			}
		}
		return true
	}, len(values["status"]) > 0, nil
}

// has reports whether the container has the value of the key.
func has(c *state.Container, key, value string) bool {
	switch key {
	case "id":
		return strings.HasPrefix(c.ID, value)
	case "name":
		return strings.Contains(c.Name, value)
	case "status":
		return string(c.Status) == value
	case "image":
		return c.Image == value
	}
	k, v, valued := strings.Cut(value, "=")
	got, ok := c.Labels[k]
	return ok && (!valued || got == v)
}
