// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Reserve writes the record of an attachment, which f makes. It is told of the other
// attachments of the same container, in whatever network, so that they do not get the
// same of something that the container can have once; nobody else reserves meanwhile.
// Whether such an attachment is there still, runs says, which is given the path of its
// pidfile; one that somebody works at counts as well.
func (e *Entry) Reserve(ctx context.Context, runs func(pidfile string) bool, f func(others []Info) (Info, error)) error {
	state := filepath.Dir(filepath.Dir(e.path))
	lock, err := os.OpenFile(state, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("lock the state directory: %w", err)
	}
	defer lock.Close()
	if err := wait(ctx, lock); err != nil {
		return err
	}
	own := filepath.Base(e.path)
	all, err := filepath.Glob(filepath.Join(state, "*", own[:len(hash(""))]+"-*"))
	if err != nil {
		return fmt.Errorf("list attachments: %w", err)
	}
	var others []Info
	for _, path := range all {
		other := &Entry{path: path}
		if path != e.path && (runs(other.PidFile()) || busy(path)) {
			others = append(others, other.Info())
		}
	}
	i, err := f(others)
	if err != nil {
		return err
	}
	return e.write(i)
}

// busy reports whether somebody works at the entry.
func busy(path string) bool {
	e, err := openAt(path, func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if e != nil {
		e.Close()
	}
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}
