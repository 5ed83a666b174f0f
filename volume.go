// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/store"
	"golang.org/x/sys/unix"
)

const (
	volumeSynopsis = "volume [flags] [ls | create NAME... | rm NAME...]"
	volumeAbout    = `Lists the volumes with a name, which containers are given by --volume NAME:DIR, makes
some, or removes some with all that is in them. One that a container has, whether it
runs or not, stays.`
)

// volumeFlags are the flags of `slipway volume`.
type volumeFlags struct {
	json, quiet, force bool
}

// A volumeRow is a line of `slipway volume ls`, and an object of its JSON.
type volumeRow struct {
	Name       string   `json:"name"`
	Path       string   `json:"path"` // of its files
	Containers []string `json:"containers"`
}

// runVolume is `slipway volume`.
func runVolume(args []string, stdout, stderr io.Writer) int {
	var f volumeFlags
	c := newStorageCommand("volume", volumeSynopsis, volumeAbout, stdout, stderr)
	c.fs.BoolVar(&f.json, "json", false, "print JSON")
	c.fs.BoolVarP(&f.quiet, "quiet", "q", false, "print names only")
	c.fs.BoolVarP(&f.force, "force", "f", false, "with rm, one that is not there is no failure")
	return c.run(args, 0, -1, func(ctx context.Context, s *store.Store, words []string) error {
		verb := "ls"
		if len(words) > 0 {
			verb, words = words[0], words[1:]
		}
		switch {
		case verb != "ls" && verb != "create" && verb != "rm":
			return fmt.Errorf("%w: unknown word %q: want ls, create or rm", errUsage, verb)
		case verb == "ls" && len(words) > 0:
			return fmt.Errorf("%w: ls takes no argument, got %q", errUsage, words[0])
		case verb != "ls" && len(words) == 0:
			return fmt.Errorf("%w: want the NAME of a volume, as in: slipway volume %s NAME", errUsage, verb)
		}
		dir := namedVolumes()
		if dir == "" {
			return errors.New("there is no directory for volumes with a name: set HOME or XDG_DATA_HOME")
		}
		var errs []error
		switch verb {
		case "ls":
			return f.list(dir, stdout)
		case "create":
			for _, name := range words {
				_, err := launcher.MakeVolume(dir, name)
				errs = append(errs, told(stdout, name, err))
			}
			return errors.Join(errs...)
		}
		users, err := volumeUsers(dir)
		if err != nil {
			return err
		}
		for _, name := range words {
			errs = append(errs, told(stdout, name, f.remove(ctx, s, dir, name, users[name])))
		}
		return errors.Join(errs...)
	})
}

// told prints a name for which all went well, and returns the error.
func told(w io.Writer, name string, err error) error {
	if err == nil {
		fmt.Fprintln(w, name)
	}
	return err
}

// namedVolumes is the directory of volumes with a name; empty where there can be none.
func namedVolumes() string {
	if dir := state.DataDir(os.Getenv); dir != "" {
		return filepath.Join(dir, volumesDir)
	}
	return ""
}

// list prints the volumes, by their names.
func (f *volumeFlags) list(dir string, stdout io.Writer) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list volumes: %w", err)
	}
	users, err := volumeUsers(dir)
	if err != nil {
		return err
	}
	rows := []volumeRow{}
	for _, e := range entries {
		if path, err := launcher.VolumePath(dir, e.Name()); err == nil && e.IsDir() {
			rows = append(rows, volumeRow{e.Name(), path, append([]string{}, users[e.Name()]...)})
		}
	}
	if f.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	tw := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	if !f.quiet {
		fmt.Fprintln(tw, "NAME\tCONTAINERS")
	}
	for _, r := range rows {
		if f.quiet {
			fmt.Fprintln(tw, r.Name)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\n", r.Name, strings.Join(r.Containers, ", "))
	}
	return tw.Flush()
}

// remove removes a volume that the users, which are containers, do not have.
func (f *volumeFlags) remove(ctx context.Context, s *store.Store, dir, name string, users []string) error {
	path, err := launcher.VolumePath(dir, name)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if len(users) > 0 {
		return fmt.Errorf("volume %s: container %s has it: remove that first, by: slipway rm %s", name, users[0], users[0])
	}
	err = s.Discard(ctx, filepath.Dir(path))
	switch {
	case errors.Is(err, os.ErrNotExist) && f.force:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("volume %s: no such volume: slipway volume ls lists them", name)
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("volume %s: it is on another file system than the images: give --root a directory on that", name)
	case err != nil:
		return fmt.Errorf("volume %s: %w", name, err)
	}
	return nil
}

// volumeUsers are the names of the containers that have a volume, by its name.
func volumeUsers(dir string) (map[string][]string, error) {
	states, err := openStore()
	if err != nil {
		return nil, err
	}
	containers, err := states.List()
	if err != nil {
		return nil, err
	}
	users := map[string][]string{}
	for _, c := range containers {
		r := newRunner(c.Run.Args)
		r.life.recorded = c.Run.Env
		if err := r.fs.Parse(c.Run.Args); err != nil {
			return nil, fmt.Errorf("understand how container %s was started: %w", c.DisplayName(), err)
		}
		for _, m := range r.cfg.Mounts {
			if rel, err := filepath.Rel(dir, m.Source); err == nil && filepath.IsLocal(rel) {
				name, _, _ := strings.Cut(rel, "/")
				users[name] = append(users[name], c.DisplayName())
			}
		}
	}
	return users, nil
}
