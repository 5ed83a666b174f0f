// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// minPrefix is the least number of digits by which an image can be named.
const minPrefix = 4

// An Image is what the store knows of an image: all that starting a container of it
// needs, in one small file.
type Image struct {
	ID       Digest    `json:"id"`                 // the digest of its configuration
	Manifest Digest    `json:"manifest,omitempty"` // none if it came from a docker-archive
	Created  time.Time `json:"created"`            // zero if the image does not say
	Pulled   time.Time `json:"pulled"`
	Boot     string    `json:"boot"` // in which it was recorded; PutImage fills it in
	OS       string    `json:"os"`
	Arch     string    `json:"arch"` // as Go has it
	Variant  string    `json:"variant,omitempty"`
	Size     int64     `json:"size"`   // of the files, in bytes
	Layers   []Digest  `json:"layers"` // diffIDs, the lowest first
	MaxUID   uint32    `json:"maxUID"` // the greatest owner of a file
	MaxGID   uint32    `json:"maxGID"`
	Config   v1.Config `json:"config"`
}

func imageName(id Digest) string { return imageDir + "/" + id.Hex() + ".json" }

// PutImage records an image, the layers and blobs of which the store must have, and
// keeps it as Hold does, so that it is not removed before it has its names. One that is
// recorded stays as it is: it has the same configuration, and a container may hold it.
// If it is just being removed, PutImage waits for that until ctx is done.
func (s *Store) PutImage(ctx context.Context, i *Image) (release func(), err error) {
	i.Boot = s.boot()
	name := imageName(i.ID)
	b, err := encode(name, i)
	if err != nil {
		return nil, err
	}
	for {
		l, err := waitLock(ctx, s.path(name), unix.LOCK_SH, 0)
		switch {
		case errors.Is(err, os.ErrNotExist):
			// Not in the place of another's, who may have locked it already.
			if err := s.put(name, b, renameNew); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, err
			}
			continue
		case err != nil:
			return nil, fmt.Errorf("record image %s: %w", i.ID.Short(), err)
		}
		if _, err = s.Image(i.ID); err == nil {
			return l.release, nil
		}
		if errors.Is(err, ErrNotFound) { // damaged, and ours to mend while it is locked
			err = s.write(name, b)
		}
		l.release()
		if err != nil {
			return nil, err
		}
	}
}

// Image returns the image with the id. Its error is an ErrNotFound if there is none.
func (s *Store) Image(id Digest) (*Image, error) {
	var i Image
	if err := s.readJSON(imageName(id), &i); err != nil {
		return nil, fmt.Errorf("image %s: %w", id.Short(), err)
	}
	return &i, nil
}

// ImageIDs lists all images.
func (s *Store) ImageIDs() ([]Digest, error) {
	names, err := s.list(imageDir)
	if err != nil {
		return nil, err
	}
	var ids []Digest
	for _, n := range names {
		if hex, ok := strings.CutSuffix(n, ".json"); ok {
			if id, err := ParseDigest(algorithm + hex); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// list lists the names in a directory of the store, in order. There are none if it is
// missing: a store that was made before there was such a directory is a store all the
// same.
func (s *Store) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(s.path(dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// ByPrefix returns the id that begins with the hexadecimal digits of prefix, of which
// there must be four or more and which may follow "sha256:". Its error is an
// ErrNotFound if prefix is no such thing or no image has it.
func (s *Store) ByPrefix(prefix string) (Digest, error) {
	prefix = strings.TrimPrefix(prefix, algorithm)
	if len(prefix) < minPrefix || len(prefix) > hexSize || !isHex(prefix) {
		return "", fmt.Errorf("image %q: %w", prefix, ErrNotFound)
	}
	ids, err := s.ImageIDs()
	if err != nil {
		return "", err
	}
	ids = slices.DeleteFunc(ids, func(d Digest) bool { return !strings.HasPrefix(d.Hex(), prefix) })
	switch len(ids) {
	case 0:
		return "", fmt.Errorf("image %q: %w", prefix, ErrNotFound)
	case 1:
		return ids[0], nil
	}
	return "", fmt.Errorf("image %q: %d images begin so: give more digits", prefix, len(ids))
}

// Hold returns an image and keeps it and its layers from being removed until release
// is called or the process ends. A container holds its image for as long as it runs.
func (s *Store) Hold(id Digest) (i *Image, release func(), err error) {
	l, err := tryLock(s.path(imageName(id)), unix.LOCK_SH, 0)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, ErrLocked): // it is being removed
		return nil, nil, fmt.Errorf("image %s: %w", id.Short(), ErrNotFound)
	case err != nil:
		return nil, nil, fmt.Errorf("hold image %s: %w", id.Short(), err)
	}
	if i, err = s.Image(id); err != nil {
		l.release()
		return nil, nil, err
	}
	return i, l.release, nil
}
