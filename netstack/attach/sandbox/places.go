// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links are followed, as by the kernel (MAXSYMLINKS,
// include/linux/namei.h).
const maxLinks = 40

// A use is what is done to the files of a place.
type use int

const (
	useRead use = 1 << iota
	useRemove
	useLook
	useConnect
	useChange
	useClear
	usePrune
)

// A place is what stays in reach: a directory, or one file.
type place struct {
	path string // without symbolic links
	use  use
	file bool // it is no directory, but a file that is a mount
}

// Places are what stays in reach, in the order of their paths, and the symbolic
// links that lead there, with what they say.
type places struct {
	all   []place
	links map[string]string
}

// newPlaces finds where the files are that a Policy names.
func newPlaces(p Policy) (places, error) {
	out, uses := places{links: map[string]string{}}, map[string]place{}
	for use, paths := range map[use][]string{useRead: p.Read, useRemove: p.Remove, useLook: p.Look, useConnect: p.Connect, useChange: p.Change, useClear: p.Clear, usePrune: p.Prune} {
		for _, path := range paths {
			at, err := out.find(path, use)
			if err != nil {
				return places{}, fmt.Errorf("find %s: %w", path, err)
			}
			if _, err := os.Lstat(at.path); use == useConnect && errors.Is(err, os.ErrNotExist) {
				continue // the service's directory: its absence is nothing of ours to fail for
			}
			at.use |= uses[at.path].use
			uses[at.path] = at
		}
	}
	out.all = slices.SortedFunc(maps.Values(uses), func(a, b place) int { return cmp.Compare(a.path, b.path) })
	return out, nil
}

// find returns the place of a file. It is removed by its name, which may be that of
// a link; else it is what the link leads to that counts.
func (p *places) find(path string, use use) (place, error) {
	if !filepath.IsAbs(path) {
		return place{}, errors.New("the path is not absolute")
	}
	path = filepath.Clean(path)
	if use == useRemove {
		dir, err := p.follow(filepath.Dir(path))
		return place{path: dir, use: use}, err
	}
	real, err := p.follow(path)
	if err != nil || use == useChange || use == useClear || use == usePrune {
		return place{path: real, use: use}, err
	}
	if use != useRead {
		return place{path: filepath.Dir(real), use: use}, err
	}
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, real, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return place{path: real, use: use, file: true}, nil
	}
	return place{path: filepath.Dir(real), use: use}, nil
}

// follow returns the path without symbolic links, which it notes. What does not
// exist is no link.
func (p *places) follow(path string) (string, error) {
	at, rest, links := "/", names(path), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name)
		to, err := os.Readlink(next)
		if err != nil { // EINVAL: it is no link
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		p.links[next] = to
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(names(to), rest...)
	}
	return at, nil
}

// names are the parts of a path; ".." is among them.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}
