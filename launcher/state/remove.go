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

// Remove removes a container that has ended. The error is ErrAlive if it has not,
// and ErrNotFound if it is not there. What is in the data directory must be the
// caller's own: files of other ids are to be removed before.
func (s *Store) Remove(id string) error {
	c, err := s.Load(id)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.Dir(id), lockFile), os.O_RDWR|unix.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist): // of an earlier boot
	case err != nil:
		return fmt.Errorf("remove container %s: %w", c.Short(), err)
	default:
		defer f.Close()
		mine, err := tryLock(f)
		if err != nil {
			return err
		}
		if !mine {
			return fmt.Errorf("%w: %s", ErrAlive, c.DisplayName())
		}
	}
	if err := s.remove(&c.Record); err != nil {
		return fmt.Errorf("remove container %s: %w", c.Short(), err)
	}
	return nil
}

// remove removes a container's directories, and then its name. The directory in
// the data directory goes first: of what is left of a removal that was cut short,
// the other still tells.
func (s *Store) remove(r *Record) error {
	var err error
	if s.onDisk(r) {
		err = os.RemoveAll(s.DataDir(r.ID))
	}
	if err == nil {
		err = os.RemoveAll(s.Dir(r.ID))
	}
	if r.Name != "" && err == nil {
		s.release(r.Name, r.ID)
	}
	return err
}
