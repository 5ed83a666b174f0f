// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/spf13/pflag"
)

const (
	rmiSynopsis = "rmi [flags] IMAGE..."
	rmiAbout    = `Takes the name IMAGE away, and removes the image if that was its last. By its id, an
image is removed with its only name. What a container uses stays.`
)

// rmiFlags are the flags of `slipway rmi`.
type rmiFlags struct {
	force bool
	all   bool
}

func (f *rmiFlags) add(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.force, "force", "f", false, "remove an image with all of its names; one that is not here is no failure")
	fs.BoolVarP(&f.all, "all", "a", false, "remove all images that no container uses")
}

// runRmi is `slipway rmi`.
func runRmi(args []string, stdout, stderr io.Writer) int {
	var f rmiFlags
	c := newStorageCommand("rmi", rmiSynopsis, rmiAbout, stdout, stderr)
	f.add(c.fs)
	return c.run(args, 0, -1, func(ctx context.Context, s *store.Store, words []string) error {
		if f.all == (len(words) > 0) {
			return fmt.Errorf("%w: want either images or --all", errUsage)
		}
		var errs []error
		if f.all {
			errs = append(errs, f.removeAll(s, stdout))
		}
		for _, w := range words {
			if err := f.remove(s, w, stdout); err != nil {
				errs = append(errs, err)
			}
		}
		// What is left of them goes now, or with the next time that nobody pulls.
		if _, err := collect(ctx, s); err != nil && !errors.Is(err, store.ErrBusy) {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// removeAll removes all images that no container uses.
func (f *rmiFlags) removeAll(s *store.Store, stdout io.Writer) error {
	ids, err := s.ImageIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		switch err := s.RemoveImage(id); {
		case errors.Is(err, store.ErrInUse) || errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		default:
			fmt.Fprintf(stdout, "Deleted: %s\n", id)
		}
	}
	return nil
}

// remove takes a name away, and the image with its last.
func (f *rmiFlags) remove(s *store.Store, word string, stdout io.Writer) error {
	id, err := resolve(s, word)
	if f.force && errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := givenNames(s, id)
	if err != nil {
		return err
	}
	called := namesOf(s, word, id)
	switch {
	case len(called) > 0 && len(names) > 1 && !f.force:
		fmt.Fprintf(stdout, "Untagged: %s\n", called[0])
		return s.RemoveRef(called[0].String())
	case len(called) == 0 && len(names) > 1 && !f.force:
		return fmt.Errorf("image %s has several names (%s): remove those, or give --force", id.Short(), strings.Join(names, ", "))
	}
	if err := s.RemoveImage(id); err != nil {
		return err
	}
	for _, n := range names {
		fmt.Fprintf(stdout, "Untagged: %s\n", n)
	}
	fmt.Fprintf(stdout, "Deleted: %s\n", id)
	return nil
}

// givenNames are the names of an image that somebody gave it.
func givenNames(s *store.Store, id store.Digest) ([]string, error) {
	refs, err := s.Refs()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range refs {
		if r.Image == id && !r.Implied {
			names = append(names, r.Name)
		}
	}
	return names, nil
}
