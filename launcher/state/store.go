// SPDX-License-Identifier: Apache-2.0

package state

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Errors that callers ask for by errors.Is.
var (
	// ErrNotFound says that no container has the name or id.
	ErrNotFound = errors.New("no such container")
	// ErrNameTaken says that another container has the name.
	ErrNameTaken = errors.New("the name is taken")
	// ErrAmbiguous says that several ids begin with the word.
	ErrAmbiguous = errors.New("several containers match")
	// ErrAlive says that the container's supervisor is at work.
	ErrAlive = errors.New("the container is running")
)

// Names of directories and files.
const (
	containersDir = "containers"
	namesDir      = "names"
	logsDir       = "logs"
	recordFile    = "state.json"
)

// maxRecord bounds in bytes what is read of a record: a command line and an
// environment may be 4 MiB together (launcher.Config).
const maxRecord = 16 << 20

// unborn marks a directory that is not filled yet.
const unborn = ".new-"

// unbornAge is how old such a directory is when its maker is taken to be dead.
// Filling it takes less than a millisecond.
const unbornAge = time.Minute

// A Store is where a user's containers are. It holds nothing open and may be used
// concurrently, by any number of processes too.
type Store struct {
	run, data string
	boot      string
}

// Open returns the store in the run directory run and the data directory data,
// and makes the former. An empty data means that nothing can be kept.
func Open(run, data string) (*Store, error) {
	s := &Store{run: run, data: data, boot: bootID()}
	if err := makeDir(run); err != nil {
		return nil, err
	}
	for _, dir := range []string{containersDir, namesDir} {
		if err := os.Mkdir(filepath.Join(run, dir), dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the state directory: %w", err)
		}
	}
	return s, nil
}

// Dir returns the directory of a container that a reboot removes.
func (s *Store) Dir(id string) string { return filepath.Join(s.run, containersDir, id) }

// DataDir returns the directory of what is kept of a container.
func (s *Store) DataDir(id string) string { return filepath.Join(s.data, containersDir, id) }

// onDisk reports whether a container has a directory in the data directory: what
// is kept, and logs, which have no place in memory.
func (s *Store) onDisk(r *Record) bool { return s.data != "" && (r.Keep || r.Detached) }

// LogDir returns the directory of a detached container's logs, which is in that which
// outlives a reboot, if there is one.
func (s *Store) LogDir(r *Record) string {
	if s.onDisk(r) {
		return filepath.Join(s.DataDir(r.ID), logsDir)
	}
	return filepath.Join(s.Dir(r.ID), logsDir)
}

// RunDir returns the store's run directory.
func (s *Store) RunDir() string { return s.run }

// Load returns the container of an id, which must be a whole one.
func (s *Store) Load(id string) (*Container, error) {
	c, err := s.load(s.Dir(id))
	if errors.Is(err, fs.ErrNotExist) && s.data != "" {
		c, err = s.load(s.DataDir(id))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return c, err
}

// load reads the container in dir.
func (s *Store) load(dir string) (*Container, error) {
	// Whoever ends between the two has an exit, so the lock is looked at first.
	alive := isLocked(filepath.Join(dir, lockFile))
	b, err := readBounded(filepath.Join(dir, recordFile), maxRecord)
	if err != nil {
		return nil, fmt.Errorf("read the record of a container: %w", err)
	}
	c := &Container{Status: Exited}
	if err := json.Unmarshal(b, &c.Record); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, recordFile), err)
	}
	if c.ID != filepath.Base(dir) {
		return nil, fmt.Errorf("read %s: it is the record of container %q", filepath.Join(dir, recordFile), c.ID)
	}
	switch {
	case alive && c.Init != Process{}:
		c.Status = Running
	case alive:
		c.Status = Created
	default:
		c.Exit = readExit(dir)
		if c.Exit == nil {
			c.Exit = s.lost(&c.Record)
		}
	}
	return c, nil
}

// lost makes up the exit of a container whose supervisor could not write one.
func (s *Store) lost(r *Record) *Exit {
	if r.BootID != s.boot {
		return &Exit{Code: codeLost, Error: "the host was started anew"}
	}
	return &Exit{Code: codeLost, Error: "its supervisor was killed"}
}

// List returns all containers, oldest first, after it has removed what nobody
// else will: containers to be thrown away, and unborn ones, whose supervisors were
// killed. Records that cannot be read are told of by the error; the others are
// returned all the same.
func (s *Store) List() ([]*Container, error) {
	ids, err := s.ids()
	var all []*Container
	errs := []error{err}
	for _, id := range ids {
		if strings.HasPrefix(id, unborn) {
			s.reapUnborn(id)
			continue
		}
		c, err := s.Load(id)
		switch {
		case errors.Is(err, ErrNotFound): // it has just gone
		case err != nil:
			errs = append(errs, err)
		case c.Status == Exited && !c.Keep:
			if err := s.Remove(id); err != nil && !errors.Is(err, ErrAlive) && !errors.Is(err, ErrNotFound) {
				errs = append(errs, err)
			}
		default:
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b *Container) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return all, errors.Join(errs...)
}

// ids returns the names of all containers' directories, each once.
func (s *Store) ids() ([]string, error) {
	var ids []string
	places := []string{s.run}
	if s.data != "" {
		places = append(places, s.data)
	}
	for _, place := range places {
		entries, err := os.ReadDir(filepath.Join(place, containersDir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ids, fmt.Errorf("list containers: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && (isID(e.Name()) || strings.HasPrefix(e.Name(), unborn)) {
				ids = append(ids, e.Name())
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// reapUnborn removes a directory whose maker died before it had filled it.
func (s *Store) reapUnborn(name string) {
	dir := filepath.Join(s.run, containersDir, name)
	info, err := os.Stat(dir)
	if err != nil || time.Since(info.ModTime()) < unbornAge || isLocked(filepath.Join(dir, lockFile)) {
		return
	}
	_ = os.RemoveAll(dir) // the next List tries again
}

// Find returns the container that the word means: a name, else an id or the
// beginning of one that no other has.
func (s *Store) Find(word string) (*Container, error) {
	if id := s.named(word); id != "" {
		return s.Load(id)
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var found []string
	if isID(word) {
		for _, id := range ids {
			if strings.HasPrefix(id, word) {
				found = append(found, id)
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %s: see slipway ps -a", ErrNotFound, word)
	case 1:
		return s.Load(found[0])
	}
	return nil, fmt.Errorf("%w: %s is the beginning of %d ids: give more of it", ErrAmbiguous, word, len(found))
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, info.Size(), limit)
	}
	b := make([]byte, info.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, err
	}
	return b, nil
}
