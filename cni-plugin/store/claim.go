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

// Claim writes the record of an attachment that is to publish ports, with Publishes set
// unless another attachment of the same container does so already: runtimes ask every
// network of a container for the same ports, and a port of the host can be had once.
// Whether such an attachment is there still, runs says, which is given the path of its
// pidfile; one that somebody works at counts as well.
func Claim(ctx context.Context, state string, e *Entry, i Info, runs func(pidfile string) bool) (bool, error) {
	lock, err := os.OpenFile(state, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, fmt.Errorf("lock the state directory: %w", err)
	}
	defer lock.Close()
	if err := wait(ctx, lock); err != nil {
		return false, err
	}
	all, err := filepath.Glob(filepath.Join(state, "*", "*"))
	if err != nil {
		return false, fmt.Errorf("list attachments: %w", err)
	}
	i.Publishes = true
	for _, path := range all {
		other := &Entry{path: path}
		if o := other.Info(); path == e.path || !o.Publishes || o.ContainerID != i.ContainerID {
			continue
		}
		if runs(other.PidFile()) || busy(path) {
			i.Publishes = false
		}
	}
	return i.Publishes, e.Write(i)
}

// busy reports whether somebody works at the entry.
func busy(path string) bool {
	e, err := openAt(path, func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if e != nil {
		e.Close()
	}
	return err != nil && !errors.Is(err, fs.ErrNotExist)
}
