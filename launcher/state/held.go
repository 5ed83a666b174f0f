// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Held is a container as its supervisor holds it: nobody else does until Close,
// or until the process ends. Its methods are for one goroutine at a time.
type Held struct {
	store *Store
	rec   Record
	lock  *os.File
	exits []*os.File // what the exit is written into; the last outlives a reboot
}

// Create writes a new container down and holds it. ID, Created, BootID and
// Supervisor are filled in where they are zero. The error is an ErrNameTaken if
// another container has the name. After an error nothing is left.
func (s *Store) Create(r Record) (_ *Held, err error) {
	if err := s.fill(&r); err != nil {
		return nil, err
	}
	h := &Held{store: s, rec: r}
	defer func() {
		if err != nil {
			h.remove()
			h.Close()
			err = fmt.Errorf("write the container down: %w", err)
		}
	}()
	if err := h.fill(unborn + r.ID); err != nil {
		return nil, err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, s.Dir(unborn+r.ID), unix.AT_FDCWD, s.Dir(r.ID), unix.RENAME_NOREPLACE); err != nil {
		return nil, fmt.Errorf("name its directory: %w", err)
	}
	if s.onDisk(&r) {
		if err := h.keep(); err != nil {
			return nil, err
		}
	}
	if err := h.makeLogs(); err != nil {
		return nil, err
	}
	if r.Name != "" {
		return h, s.claim(r.Name, r.ID)
	}
	return h, nil
}

// Reopen holds a container that has ended, to run it again, detached. The error is
// ErrAlive if it has not.
func (s *Store) Reopen(id string) (_ *Held, err error) {
	c, err := s.Load(id)
	if err != nil {
		return nil, err
	}
	r := c.Record
	r.Init, r.Started, r.Detached = Process{}, time.Time{}, true
	if err := s.fill(&r); err != nil {
		return nil, err
	}
	h := &Held{store: s, rec: r}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	// After a reboot there is no such directory.
	if err := os.Mkdir(s.Dir(id), dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write the container down: %w", err)
	}
	if err := h.fill(id); err != nil {
		return nil, err
	}
	if err := errors.Join(h.keep(), h.makeLogs()); err != nil {
		return nil, err
	}
	if r.Name != "" {
		return h, s.claim(r.Name, id)
	}
	return h, nil
}

// fill gives a record what the caller need not know.
func (s *Store) fill(r *Record) (err error) {
	if r.ID == "" {
		r.ID = NewID()
	}
	if r.Created.IsZero() {
		r.Created = time.Now()
	}
	if r.Keep && s.data == "" {
		return errors.New("keep the container: there is no directory for it: set HOME or XDG_DATA_HOME, or throw it away at its end by --rm")
	}
	r.BootID = s.boot
	r.Supervisor, err = ProcessOf(os.Getpid())
	return err
}

// fill makes what the directory name is to hold, and locks it.
func (h *Held) fill(name string) (err error) {
	dir := h.store.Dir(name)
	if name != h.rec.ID {
		if err := os.Mkdir(dir, dirMode); err != nil {
			return err
		}
	}
	if h.lock, err = os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600); err != nil {
		return err
	}
	mine, err := tryLock(h.lock)
	if err != nil {
		return err
	}
	if !mine {
		return ErrAlive
	}
	if err := h.openExit(dir); err != nil {
		return err
	}
	return h.write(dir)
}

// openExit makes the file in dir that the exit is written into.
func (h *Held) openExit(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, exitFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	h.exits = append(h.exits, f)
	_, err = f.WriteAt(noExit(), 0)
	return err
}

// keep makes the directory in the data directory and what it holds from the start.
func (h *Held) keep() error {
	dir := h.store.DataDir(h.rec.ID)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	if err := h.openExit(dir); err != nil {
		return err
	}
	return h.write(dir)
}

// makeLogs makes the directory of logs for a container that has any.
func (h *Held) makeLogs() error {
	if !h.rec.Detached {
		return nil
	}
	return os.MkdirAll(h.LogDir(), dirMode)
}

// write replaces the record in dir.
func (h *Held) write(dir string) error {
	b, err := json.Marshal(&h.rec)
	if err != nil {
		return err
	}
	return writeAtomic(dir, recordFile, b)
}

// Record returns the record as it is now.
func (h *Held) Record() Record { return h.rec }

// Dir returns the directory of the container that a reboot removes.
func (h *Held) Dir() string { return h.store.Dir(h.rec.ID) }

// LogDir returns the directory for logs; see Store.LogDir.
func (h *Held) LogDir() string { return h.store.LogDir(&h.rec) }

// DataDir returns the directory of what outlives a reboot; it is there only if the
// Record says Keep.
func (h *Held) DataDir() string { return h.store.DataDir(h.rec.ID) }

// Places returns the directories below which files are changed for a Held that Running has
// been called for, those below which they are removed, and those below which empty
// directories are. A record is changed no more: by that others know what to start again,
// to join and to remove.
func (h *Held) Places() (change, clear, prune []string) {
	clear = []string{h.Dir()}
	if h.rec.Detached {
		change = []string{h.LogDir()}
	}
	if h.rec.Keep {
		return change, clear, nil
	}
	prune = []string{filepath.Join(h.store.run, containersDir)}
	if h.store.onDisk(&h.rec) {
		clear = append(clear, h.DataDir())
		prune = append(prune, filepath.Join(h.store.data, containersDir))
	}
	if h.rec.Name != "" {
		change = append(change, filepath.Join(h.store.run, namesDir))
	}
	return change, clear, prune
}

// Running notes that the command runs, under the first process pid.
func (h *Held) Running(pid int) error {
	p, err := ProcessOf(pid)
	if err != nil {
		return err // it has ended already
	}
	h.rec.Init, h.rec.Started = p, time.Now()
	err = h.write(h.Dir())
	if h.store.onDisk(&h.rec) {
		err = errors.Join(err, h.write(h.DataDir()))
	}
	if err != nil {
		return fmt.Errorf("note that the container runs: %w", err)
	}
	return nil
}

// Finish notes how the container ended. It is not noted as exited before Close.
func (h *Held) Finish(e Exit) error {
	if e.Finished.IsZero() {
		e.Finished = time.Now()
	}
	b, err := encodeExit(e)
	if err != nil {
		return err
	}
	for _, f := range h.exits {
		_, werr := f.WriteAt(b, 0)
		err = errors.Join(err, werr)
	}
	if err != nil {
		return fmt.Errorf("note how the container ended: %w", err)
	}
	return nil
}

// Close lets the container go: it counts as exited, and is removed unless it is to
// be kept.
func (h *Held) Close() error {
	var err error
	if !h.rec.Keep {
		err = h.remove()
	}
	for _, f := range append(h.exits, h.lock) {
		if f != nil {
			f.Close()
		}
	}
	h.lock, h.exits = nil, nil
	return err
}

// remove removes all that is written down of the container.
func (h *Held) remove() error {
	err := errors.Join(os.RemoveAll(h.store.Dir(unborn+h.rec.ID)), h.store.remove(&h.rec))
	if err != nil {
		return fmt.Errorf("remove container %s: %w", h.rec.Short(), err)
	}
	return nil
}
