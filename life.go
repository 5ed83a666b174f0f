// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"

	"github.com/slipway-net/slipway/launcher/state"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// lifeFlags are the flags of `slipway run` about a container's life.
type lifeFlags struct {
	detach     bool
	foreground bool
	replace    bool
	remove     bool
	name       string
	cidfile    string
	pidfile    string
	labels     []string
	stopSignal string
	logSize    int64
	restart    string
	env        map[string]string // what was looked up in the environment
	recorded   map[string]string // goes before it: of a container that was started before
}

// add adds the flags to fs.
func (f *lifeFlags) add(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.detach, "detach", "d", false, "run in the background, and print the container's id")
	fs.BoolVar(&f.foreground, "foreground", false, "run in the foreground, whatever --detach says: for units of systemd")
	fs.BoolVar(&f.replace, "replace", false, "with --name, end and remove the container of that name first")
	fs.BoolVar(&f.remove, "rm", false, "remove the container at its end; in the foreground, without an image, always so")
	fs.StringVar(&f.name, "name", "", "`NAME` to call the container by")
	fs.StringArrayVarP(&f.labels, "label", "l", nil, "note `KEY[=VALUE]` with the container (repeatable)")
	fs.StringVar(&f.cidfile, "cidfile", "", "write the container's id to `FILE`, which must not be there")
	fs.StringVar(&f.pidfile, "pidfile", "", "write the id of the container's first process to `FILE`")
	fs.StringVar(&f.stopSignal, "stop-signal", "", "`SIGNAL` by which slipway stop asks the command to end (default the image's, or TERM)")
	fs.Int64Var(&f.logSize, "log-size", 0, "`BYTES` of a detached container's log, kept twice (default 10 MiB)")
	fs.StringVar(&f.restart, "restart", "no", "`POLICY` no; to start again is systemd's work: see slipway generate systemd")
}

// lookup is os.LookupEnv, or what of the environment is written down of a container
// that is started again. It remembers what was looked up.
func (f *lifeFlags) lookup(key string) (string, bool) {
	v, ok := f.recorded[key]
	if !ok {
		v, ok = os.LookupEnv(key)
	}
	if ok {
		if f.env == nil {
			f.env = map[string]string{}
		}
		f.env[key] = v
	}
	return v, ok
}

// record is what of a container's record the flags say; args are the words behind
// "run".
func (f *lifeFlags) record(args []string) (state.Record, error) {
	r := state.Record{Name: f.name}
	if f.name != "" {
		if err := state.CheckName(f.name); err != nil {
			return r, fmt.Errorf("%w: --name: %w", errUsage, err)
		}
	}
	if f.replace && f.name == "" {
		return r, fmt.Errorf("%w: --replace: of which name? Give --name", errUsage)
	}
	if f.restart != "no" {
		return r, fmt.Errorf("%w: --restart %s: there is no daemon to do it: leave it out, and have systemd do it by the unit that slipway generate systemd prints", errUsage, f.restart)
	}
	sig, err := parseSignal(cmp.Or(f.stopSignal, "TERM"))
	if err != nil {
		return r, fmt.Errorf("--stop-signal: %w", err)
	}
	r.StopSignal = int(sig)
	for _, l := range f.labels {
		k, v, _ := strings.Cut(l, "=")
		if k == "" {
			return r, fmt.Errorf("%w: --label %q: want KEY or KEY=VALUE", errUsage, l)
		}
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[k] = v
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	r.Run = state.Invocation{Args: args, Dir: dir, Env: maps.Clone(f.env)}
	return r, nil
}

// makeRoom removes the container of the name that is to be replaced.
func (f *lifeFlags) makeRoom(s *state.Store) error {
	if !f.replace {
		return nil
	}
	c, err := s.Find(f.name)
	if errors.Is(err, state.ErrNotFound) || err == nil && c.Name != f.name {
		return nil
	}
	if err == nil {
		err = remove(s, c, true, defaultGrace)
	}
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return fmt.Errorf("replace container %s: %w", f.name, err)
	}
	return nil
}

// began writes the container's id to --cidfile.
func (f *lifeFlags) began(r state.Record) error {
	if f.cidfile == "" {
		return nil
	}
	file, err := os.OpenFile(f.cidfile, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write the container's id: %s is there already: remove it, if its container is gone", f.cidfile)
	}
	if err != nil {
		return fmt.Errorf("write the container's id: %w", err)
	}
	_, err = file.WriteString(r.ID)
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(f.cidfile)
		return fmt.Errorf("write the container's id: %w", err)
	}
	return nil
}

// started writes the id of the first process to --pidfile.
func (f *lifeFlags) started(r state.Record) error {
	if f.pidfile == "" {
		return nil
	}
	if err := os.WriteFile(f.pidfile, fmt.Appendln(nil, r.Init.PID), 0o644); err != nil {
		return fmt.Errorf("write the process id: %w", err)
	}
	return nil
}

// ended removes what belongs to a container that is not kept.
func (f *lifeFlags) ended(keep bool) {
	if f.pidfile != "" {
		os.Remove(f.pidfile)
	}
	if f.cidfile != "" && !keep {
		os.Remove(f.cidfile)
	}
}
