// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/slipway-net/slipway/launcher/unpack"
	"golang.org/x/sys/unix"
)

// Names in the directory of a layer.
const (
	layerFiles  = "fs"     // what overlayfs gets
	layerAside  = "aside"  // files that are in the archive alone
	layerRecipe = "recipe" // see unpack.Rebuild
	layerMeta   = "meta.json"
)

// copySize is the size in bytes in which a compressed layer is handed on: that of a
// pipe after F_SETPIPE_SZ, as far as a plain user may (pipe(7)).
const copySize = 1 << 20

// maxUnread is how much of a blob is verified that the stage does not read, in bytes: a
// small one that was damaged is told by its digest, which says more than what came of
// it; a large one, of which the stage refuses a file, is not fetched to its end.
const maxUnread = 4 << 20

// A Source is a layer that the store may not have.
type Source struct {
	DiffID Digest // of the archive
	Digest Digest // of the blob, which may be compressed; empty if nobody says
	Size   int64  // of the blob, in bytes; -1 if nobody says
	// Open begins to read the blob. It is called only if the store needs it.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Layer is what the store knows of a layer.
type Layer struct {
	unpack.Info
	Boot string `json:"boot"` // in which it was written, see Check
}

func (s *Store) layerName(diffID Digest) string { return layerDir + "/" + diffID.Hex() + "-" + s.key }

// LayerDir is the directory of a layer's files, for overlayfs.
func (s *Store) LayerDir(diffID Digest) string { return s.path(s.layerName(diffID), layerFiles) }

// Layer returns what the store knows of a layer. Its error is an ErrNotFound if it
// does not have it for its mapping.
func (s *Store) Layer(diffID Digest) (*Layer, error) {
	var l Layer
	if err := s.readJSON(s.layerName(diffID)+"/"+layerMeta, &l); err != nil {
		return nil, fmt.Errorf("layer %s: %w", diffID.Short(), err)
	}
	return &l, nil
}

// AddLayer unpacks a layer unless the store has it. If another process is at the same
// layer, it waits for that. The blob and what it unpacks to are verified; the layer is
// there whole, or not at all. The caller has called Pulling.
func (s *Store) AddLayer(ctx context.Context, src Source) (*Layer, error) {
	if l, err := s.usable(ctx, src.DiffID); !errors.Is(err, ErrNotFound) {
		return l, err
	}
	name := path.Base(s.layerName(src.DiffID))
	lock, err := lockFile(ctx, s.path(lockDir, name), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.remove()
	if l, err := s.Layer(src.DiffID); !errors.Is(err, ErrNotFound) {
		return l, err
	}
	l, err := s.addLayer(ctx, src, path.Join(tmpDir, name), lock)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", src.DiffID.Short(), err)
	}
	return l, nil
}

// addLayer unpacks a layer in the directory stage, which is this process's alone, and
// moves it to its place.
func (s *Store) addLayer(ctx context.Context, src Source, stage string, lock *lock) (*Layer, error) {
	// What a process left that was killed, and a layer that is not whole.
	if err := errors.Join(s.remove(ctx, stage), s.discard(ctx, s.layerName(src.DiffID))); err != nil {
		return nil, err
	}
	info, err := s.unpack(ctx, src, stage, lock)
	l := &Layer{Boot: s.boot()}
	if err == nil {
		l.Info = *info
		err = s.writeJSON(path.Join(stage, layerMeta), l)
	}
	if err == nil {
		err = os.Rename(s.path(stage), s.path(s.layerName(src.DiffID)))
	}
	if err != nil {
		// Also if ctx is done: nothing half-made is to remain.
		if rerr := s.remove(context.WithoutCancel(ctx), stage); rerr != nil {
			s.Log.Warn("cannot remove what is left of a layer", "dir", s.path(stage), "err", rerr)
		}
		return nil, err
	}
	return l, nil
}

// unpack streams a blob to the stage.
func (s *Store) unpack(ctx context.Context, src Source, stage string, lock *lock) (*unpack.Info, error) {
	in, err := src.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, copySize) // only for speed
	copied := make(chan error, 1)
	go func() {
		defer w.Close()
		copied <- s.copy(w, in, src)
	}()
	// The end of the blob is what ends the stage's work: it must not go on after this.
	stop := context.AfterFunc(ctx, func() { in.Close() })
	defer stop()
	var l unpack.Info
	err = s.ns.call(context.WithoutCancel(ctx), opUnpack, unpackArgs{Dir: stage, Single: s.Mapping.IsSingle()}, &l, r, lock.f)
	r.Close() // if the stage gave up, so does the copy
	cerr := <-copied
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && errors.Is(cerr, os.ErrClosed):
		return nil, err
	case cerr != nil:
		// A blob that is not what it should be is why it could not be unpacked.
		return nil, cerr
	case err != nil:
		return nil, err
	case l.DiffID != string(src.DiffID):
		return nil, fmt.Errorf("%w: it unpacks to %s", ErrDigest, l.DiffID)
	}
	return &l, nil
}

// copy hands the blob on and verifies it. A reader that has enough of it early is no
// error, as the end of the archive may come before that of the blob. If much more comes
// it has given up, and copy ends with an os.ErrClosed.
func (s *Store) copy(w *os.File, in io.Reader, src Source) error {
	sum := sha256.New()
	buf := make([]byte, copySize/4)
	var n, unread int64
	for open := true; ; {
		k, err := in.Read(buf)
		_, _ = sum.Write(buf[:k]) // never fails
		if n += int64(k); src.Size >= 0 && n > src.Size {
			return fmt.Errorf("%w: the blob is larger than the %d bytes that the manifest says", ErrDigest, src.Size)
		}
		if open {
			_, werr := w.Write(buf[:k])
			open = werr == nil
		} else if unread += int64(k); unread > maxUnread {
			return os.ErrClosed
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the blob: %w", err)
		}
	}
	if src.Size >= 0 && n != src.Size {
		return fmt.Errorf("%w: the blob has %d bytes, and %d in the manifest", ErrDigest, n, src.Size)
	}
	if got := digestOf(sum); src.Digest != "" && got != src.Digest {
		return fmt.Errorf("%w: the blob is %s, and %s in the manifest", ErrDigest, got, src.Digest)
	}
	return nil
}
