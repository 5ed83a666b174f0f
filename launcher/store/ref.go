// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A Ref is a name of an image.
type Ref struct {
	// Name is the whole name with a tag or a digest, such as
	// "docker.io/library/busybox:latest".
	Name  string `json:"name"`
	Image Digest `json:"image"`
	// Implied is a name by digest that came with one by tag. It does not keep the
	// image from being removed.
	Implied bool `json:"implied,omitempty"`
}

// refName is the file of a name: a name may have characters and a length that no file
// name can have.
func refName(name string) string { return refDir + "/" + DigestOf([]byte(name)).Hex() + ".json" }

// SetRef gives an image a name, which may have been another's.
func (s *Store) SetRef(r Ref) error {
	if r.Implied {
		// It must not take the place of a name that somebody asked for.
		if old, err := s.Ref(r.Name); err == nil && old.Image == r.Image {
			return nil
		}
	}
	return s.writeJSON(refName(r.Name), r)
}

// Ref returns the name as the store has it. Its error is an ErrNotFound if it does
// not have it.
func (s *Store) Ref(name string) (Ref, error) {
	var r Ref
	if err := s.readJSON(refName(name), &r); err != nil {
		return Ref{}, fmt.Errorf("image %s: %w", name, err)
	}
	return r, nil
}

// RemoveRef takes a name away. Its error is an ErrNotFound if there is none.
func (s *Store) RemoveRef(name string) error {
	err := os.Remove(s.path(refName(name)))
	if errors.Is(err, os.ErrNotExist) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("remove the name %s: %w", name, err)
	}
	return nil
}

// Refs lists all names, in order.
func (s *Store) Refs() ([]Ref, error) {
	names, err := s.list(refDir)
	if err != nil {
		return nil, err
	}
	var refs []Ref
	for _, n := range names {
		var r Ref
		err := s.readJSON(refDir+"/"+n, &r)
		if errors.Is(err, ErrNotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		refs = append(refs, r)
	}
	slices.SortFunc(refs, func(a, b Ref) int { return strings.Compare(a.Name, b.Name) })
	return refs, nil
}
