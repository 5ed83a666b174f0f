// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// claim gives the name to the container id, whose directory must be there. The
// error is ErrNameTaken if another container has it.
func (s *Store) claim(name, id string) error {
	f, err := s.lockName(name, os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	other := s.owner(f, name)
	if other != "" && other != id {
		return fmt.Errorf("%w: %s is container %s: give another, or remove that: slipway rm %s", ErrNameTaken, name, other[:ShortID], name)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("claim the name %s: %w", name, err)
	}
	if _, err := f.WriteAt([]byte(id), 0); err != nil {
		return fmt.Errorf("claim the name %s: %w", name, err)
	}
	return nil
}

// release gives the name up if it is the container's.
func (s *Store) release(name, id string) {
	f, err := s.lockName(name, 0)
	if err != nil {
		return // nobody has it
	}
	defer f.Close()
	if readID(f) == id {
		os.Remove(f.Name())
	}
}

// lockName opens and locks the file of a name, which may be removed meanwhile.
func (s *Store) lockName(name string, flag int) (*os.File, error) {
	path := filepath.Join(s.run, namesDir, name)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|flag, 0o600)
		if err != nil {
			return nil, fmt.Errorf("claim the name %s: %w", name, err)
		}
		if err := waitLock(f); err != nil {
			f.Close()
			return nil, err
		}
		mine, err1 := f.Stat()
		there, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(mine, there) {
			return f, nil
		}
		f.Close()
	}
}

// owner returns the id of the container that has the name, whose file is f, or "".
func (s *Store) owner(f *os.File, name string) string {
	if id := readID(f); id != "" {
		if c, err := s.Load(id); err == nil && c.Name == name && (c.Keep || c.Status != Exited) {
			return id
		}
	}
	return s.kept(name)
}

// named returns the id of the container of that name, or "".
func (s *Store) named(name string) string {
	if CheckName(name) != nil {
		return ""
	}
	f, err := os.Open(filepath.Join(s.run, namesDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return s.kept(name)
	}
	if err != nil {
		return ""
	}
	defer f.Close()
	return s.owner(f, name)
}

// kept returns the id of the container of that name that an earlier boot has
// left, or "": the files of the names went with that boot.
func (s *Store) kept(name string) string {
	if s.data == "" {
		return ""
	}
	entries, err := os.ReadDir(filepath.Join(s.data, containersDir))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if c, err := s.load(s.DataDir(e.Name())); err == nil && c.Name == name {
			return c.ID
		}
	}
	return ""
}

// readID reads the id in the file of a name; "" is none.
func readID(f *os.File) string {
	b := make([]byte, 2*idBytes)
	n, _ := f.ReadAt(b, 0)
	if id := string(b[:n]); n == len(b) && isID(id) {
		return id
	}
	return ""
}
