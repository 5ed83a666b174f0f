// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/slipway-net/slipway/launcher/userns"
	"golang.org/x/sys/unix"
)

// ErrNotFound is what errors.Is finds in the error of something that the store does
// not have.
var ErrNotFound = errors.New("not found")

// layoutVersion is what the file "version" says. A store of another is left alone.
const layoutVersion = "1\n"

// Names in the directory of a store; see the package comment.
const (
	versionFile = "version"
	blobDir     = "blobs"
	layerDir    = "layers"
	imageDir    = "images"
	refDir      = "refs"
	tmpDir      = "tmp"
	trashDir    = "trash"
	lockDir     = "locks"
	shiftDir    = "shifted"
	writableDir = "writable"
	spareDir    = "spare"
	groundDir   = "ground"
	gcLock      = "gc"
)

// maxRecord bounds the files that the store itself wrote, in bytes. The largest have
// a line for each layer of an image.
const maxRecord = 4 << 20

// A Config says where a store is and whose its files are.
type Config struct {
	// Dir is the absolute directory of the store, which is made if it is missing.
	Dir string
	// Mapping is whose the files of layers are: unpacked in a user namespace of it.
	// Layers of other mappings are another's.
	Mapping userns.Mapping
	// Log receives what the user need not act on; nil discards it.
	Log *slog.Logger
}

// A Store is a directory with images. Any number of processes may use one, and any
// number of goroutines a Store.
type Store struct {
	Config
	key  string // of the mapping, in the names of layers
	ns   namespace
	boot func() string // bootID, read once
}

// Open opens the store in c.Dir, and makes it if it is missing. The caller closes it.
func Open(c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !filepath.IsAbs(c.Dir) {
		return nil, fmt.Errorf("open the store %q: want an absolute path", c.Dir)
	}
	s := &Store{Config: c, key: mappingKey(c.Mapping), boot: sync.OnceValue(bootID)}
	s.ns.store = s
	if err := s.checkOwner(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	version, err := os.ReadFile(s.path(versionFile))
	switch {
	case err == nil && string(version) == layoutVersion:
		return s, nil
	case err == nil && len(version) > 0: // an empty one did not reach the disk
		return nil, fmt.Errorf("the store %s is of version %.20q, want %q: use the slipway that made it, or another --root",
			c.Dir, strings.TrimSpace(string(version)), strings.TrimSpace(layoutVersion))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open the store: %w", err)
	}
	for _, d := range []string{"", blobDir, layerDir, imageDir, refDir, tmpDir, trashDir, lockDir, shiftDir, writableDir, spareDir} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return nil, fmt.Errorf("make the store: %w", err)
		}
	}
	// It may have come into being as another's meanwhile.
	if err := s.checkOwner(); err != nil {
		return nil, fmt.Errorf("make the store: %w", err)
	}
	return s, s.write(versionFile, []byte(layoutVersion))
}

// checkOwner returns an error if another user can change what is in the store, and so
// what the caller runs: one that came first to a name in /tmp, say.
func (s *Store) checkOwner() error {
	var st unix.Stat_t
	if err := unix.Stat(s.Dir, &st); err != nil {
		return &os.PathError{Op: "look at", Path: s.Dir, Err: err}
	}
	switch me := os.Geteuid(); {
	case int(st.Uid) != me:
		return fmt.Errorf("%s belongs to user %d, and you are %d: give another --root", s.Dir, st.Uid, me)
	case st.Mode&unix.S_IWOTH != 0:
		return fmt.Errorf("every user may write to %s: give another --root, or: chmod o-w %s", s.Dir, s.Dir)
	}
	return nil
}

// Close ends what runs for the store.
func (s *Store) Close() error { return s.ns.close() }

// mappingKey tells apart the layers of different mappings.
func mappingKey(m userns.Mapping) string { return DigestOf([]byte(m.String())).Short() }

// path is the name of a file of the store.
func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// write puts a file in its place, whole or not at all. It does not wait for the disk:
// if the machine fails, what there is of the file is found not to be whole.
func (s *Store) write(name string, data []byte) error { return s.put(name, data, os.Rename) }

// renameNew is os.Rename that fails with an os.ErrExist where a file is already.
func renameNew(from, to string) error {
	return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
}

// put is write with its own way to rename.
func (s *Store) put(name string, data []byte, rename func(from, to string) error) error {
	path := s.path(name)
	f, err := os.CreateTemp(s.path(tmpDir), "file-")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is left is swept up later
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// writeJSON is write of v.
func (s *Store) writeJSON(name string, v any) error {
	b, err := encode(name, v)
	if err != nil {
		return err
	}
	return s.write(name, b)
}

// encode encodes a record.
func encode(name string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	// A character of an image's configuration may take six here ("<" is \u003c), and
	// what cannot be read again would be in the way of every command.
	if len(b) >= maxRecord {
		return nil, fmt.Errorf("write %s: %d bytes, want less than %d", name, len(b), maxRecord)
	}
	return append(b, '\n'), nil
}

// readJSON reads a file that the store wrote into v. Its error is an ErrNotFound if
// there is none, or none that is whole.
func (s *Store) readJSON(name string, v any) error {
	b, err := s.read(name, maxRecord)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w (%w)", s.path(name), ErrNotFound, err)
	}
	return nil
}

// read reads a file of at most limit bytes.
func (s *Store) read(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(s.path(name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.path(name), err)
	}
	return b, nil
}

// Pulling tells the store that layers are about to come, so that GC leaves alone what
// no image has yet. The function it returns ends that.
func (s *Store) Pulling(ctx context.Context) (end func(), err error) {
	l, err := lockFile(ctx, s.path(lockDir, gcLock), unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}
