// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/supervise"
	"golang.org/x/sys/unix"
)

const (
	rmSynopsis = "rm [flags] CONTAINER..."
	rmAbout    = `Removes each CONTAINER, with its files and its log. One that runs is left alone
unless --force says otherwise.`
)

// A container that was ended to be removed is tried to be so maxRemovals times at most, with
// removalPause between: to remove one takes milliseconds.
const (
	maxRemovals  = 50
	removalPause = 20 * time.Millisecond
)

// runRm is `slipway rm`.
func runRm(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("rm")
	force := fs.BoolP("force", "f", false, "end a container that runs; one that is not there is no failure")
	all := fs.BoolP("all", "a", false, "remove all containers, but for those that run without --force")
	grace := fs.IntP("time", "t", 0, "with --force, `SECONDS` the command has to end before it is killed")
	if code, over := parseFlags(fs, args, rmSynopsis, rmAbout, stdout, stderr); over {
		return code
	}
	if err := sweepNetworks(); err != nil {
		complain(stderr, err) // which is no reason to keep a container
	}
	words := fs.Args()
	if !*all {
		if err := wantContainers(fs, rmSynopsis, 1, -1); err != nil {
			return report(stderr, err)
		}
	} else {
		var err error
		if words, err = allIDs(*force); err != nil {
			return report(stderr, err)
		}
	}
	if *force {
		words = slices.DeleteFunc(words, func(w string) bool {
			_, _, err := findContainer(w)
			return errors.Is(err, state.ErrNotFound)
		})
	}
	return report(stderr, eachContainer(words, func(s *state.Store, c *state.Container) error {
		if err := remove(s, c, *force, *grace); err != nil {
			if *force && errors.Is(err, state.ErrNotFound) {
				return nil
			}
			return err
		}
		fmt.Fprintln(stdout, c.DisplayName())
		return nil
	}))
}

// allIDs lists all containers, those that run only if running is true.
func allIDs(running bool) ([]string, error) {
	store, err := openStore()
	if err != nil {
		return nil, err
	}
	all, err := store.List()
	var ids []string
	for _, c := range all {
		if running || c.Status == state.Exited {
			ids = append(ids, c.ID)
		}
	}
	return ids, err
}

// remove removes a container.
func remove(s *state.Store, c *state.Container, force bool, grace int) error {
	err := removeEnded(s, c)
	if !errors.Is(err, state.ErrAlive) {
		return err
	}
	if !force {
		return fmt.Errorf("container %s is %s: stop it before, or give --force", c.DisplayName(), c.Status)
	}
	if err := halt(s, c, grace); err != nil {
		return err
	}
	// Somebody else may be removing it, too, and holds it meanwhile.
	for range maxRemovals {
		if err = removeEnded(s, c); !errors.Is(err, state.ErrAlive) && !errors.Is(err, store.ErrLocked) {
			break
		}
		time.Sleep(removalPause)
	}
	switch {
	case errors.Is(err, state.ErrNotFound): // one that is thrown away has removed itself
		return nil
	case errors.Is(err, state.ErrAlive):
		return fmt.Errorf("remove container %s: it has been started again", c.DisplayName())
	}
	return err
}

// removeEnded removes a container that has ended, and what it has written over its image.
// While somebody has that, to copy from it, all of the container stays.
func removeEnded(s *state.Store, c *state.Container) error {
	now, err := s.Load(c.ID)
	switch {
	case err != nil && !errors.Is(err, state.ErrNotFound):
		return err
	case err == nil && now.Status != state.Exited:
		return state.ErrAlive
	case c.Layer == "":
		return s.Remove(c.ID)
	}
	f := storageFlags{root: filepath.Dir(filepath.Dir(c.Layer))}
	layers, err := f.open(slog.New(slog.DiscardHandler))
	if err != nil {
		return errors.Join(s.Remove(c.ID), err)
	}
	defer layers.Close()
	w, _, err := layers.OpenWritable(filepath.Base(c.Layer))
	if errors.Is(err, store.ErrNotFound) {
		return s.Remove(c.ID)
	}
	if err != nil {
		if _, gone := s.Load(c.ID); errors.Is(gone, state.ErrNotFound) { // by who has the files
			return gone
		}
		return fmt.Errorf("remove container %s: %w", c.DisplayName(), err)
	}
	defer w.Close()
	gone := s.Remove(c.ID)
	if gone != nil && !errors.Is(gone, state.ErrNotFound) {
		return gone
	}
	return errors.Join(gone, w.Remove(context.Background()))
}

// halt ends a container in whatever state it is.
func halt(s *state.Store, c *state.Container, grace int) error {
	if c.Status == state.Running {
		return stop(s, c, unix.Signal(c.StopSignal), grace)
	}
	// Nothing of it can be asked before its command runs.
	w, err := s.Watch(c)
	if err != nil {
		return err
	}
	defer w.Close()
	return end(w, supervise.NewClient(s.Dir(c.ID)))
}
