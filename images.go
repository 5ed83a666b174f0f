// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

const (
	imagesSynopsis = "images [flags] [NAME]"
	imagesAbout    = `Lists the images that are here, or those whose name is or ends in NAME.`
)

// An imageRow is a line of `slipway images`, and an object of its JSON.
type imageRow struct {
	ID       store.Digest   `json:"id"`
	Names    []string       `json:"names"`
	Digests  []string       `json:"digests,omitempty"`
	Created  time.Time      `json:"created"`
	Size     int64          `json:"size"` // of the files, in bytes
	Layers   []store.Digest `json:"layers"`
	Platform string         `json:"platform"`
}

// runImages is `slipway images`.
func runImages(args []string, stdout, stderr io.Writer) int {
	var asJSON, quiet, digests bool
	c := newStorageCommand("images", imagesSynopsis, imagesAbout, stdout, stderr)
	c.fs.BoolVar(&asJSON, "json", false, "print JSON")
	c.fs.BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	c.fs.BoolVar(&digests, "digests", false, "print the digests by which registries know the images")
	return c.run(args, 0, 1, func(_ context.Context, s *store.Store, words []string) error {
		rows, err := listImages(s)
		if err != nil {
			return err
		}
		if len(words) > 0 {
			rows = slices.DeleteFunc(rows, func(r imageRow) bool {
				return !slices.ContainsFunc(r.Names, func(n string) bool { return matches(n, words[0]) })
			})
		}
		switch {
		case asJSON:
			enc := json.NewEncoder(stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(rows)
		case quiet:
			for _, r := range rows {
				fmt.Fprintln(stdout, r.ID.Short())
			}
			return nil
		}
		return showImages(stdout, rows, digests)
	})
}

// matches reports whether an image's name is or ends in what a user says, with or
// without its tag.
func matches(name, want string) bool {
	repository := name
	if n, err := image.ParseName(name); err == nil {
		repository = n.Repository()
	}
	return name == want || repository == want || strings.HasSuffix(name, "/"+want) || strings.HasSuffix(repository, "/"+want)
}

// listImages lists all images, the youngest in the store first.
func listImages(s *store.Store) ([]imageRow, error) {
	refs, err := s.Refs()
	if err != nil {
		return nil, err
	}
	ids, err := s.ImageIDs()
	if err != nil {
		return nil, err
	}
	rows := []imageRow{}
	pulled := map[store.Digest]time.Time{}
	for _, id := range ids {
		i, err := s.Image(id)
		if errors.Is(err, store.ErrNotFound) { // removed meanwhile, or damaged: to be pulled again
			continue
		}
		if err != nil {
			return nil, err
		}
		pulled[id] = i.Pulled
		row := imageRow{
			ID: id, Names: []string{}, Created: i.Created, Size: i.Size, Layers: i.Layers,
			Platform: image.Platform{OS: i.OS, Arch: i.Arch, Variant: i.Variant}.String(),
		}
		for _, r := range refs {
			switch {
			case r.Image != id:
			case strings.Contains(r.Name, "@"):
				row.Digests = append(row.Digests, r.Name)
			default:
				row.Names = append(row.Names, r.Name)
			}
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b imageRow) int { return pulled[b.ID].Compare(pulled[a.ID]) })
	return rows, nil
}

// showImages prints a line for each name.
func showImages(w io.Writer, rows []imageRow, digests bool) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tID\tCREATED\tSIZE")
	for _, r := range rows {
		names := r.Names
		if digests || len(names) == 0 {
			names = append(slices.Clone(names), r.Digests...)
		}
		if len(names) == 0 {
			names = []string{"<none>"}
		}
		for _, n := range names {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", printable(n), r.ID.Short(), created(r.Created), image.Size(r.Size))
		}
	}
	return tw.Flush()
}

// created is how long ago an image was made, which reproducible builds do not say.
func created(t time.Time) string {
	if t.IsZero() || t.Unix() == 0 {
		return "-"
	}
	return age(time.Since(t)) + " ago"
}
