// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/unpack"
)

// A Local is where images are on this machine, outside of a store.
type Local struct {
	files
	podman *podman // in place of files, for Podman's storage
}

// OpenDir opens a directory that is an OCI layout. The caller closes it.
func OpenDir(dir string) (*Local, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Local{files: dirFiles{root}}, nil
}

// OpenArchive opens a tar archive of images, of Docker's kind or the OCI's, which may be
// compressed as a whole. What can be read only in one go, such as a pipe, is copied to a
// file in the directory tmp first. The caller closes it, and f is taken over.
func OpenArchive(f *os.File, tmp string) (*Local, error) {
	f, err := seekable(f, tmp)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	t, err := newTarFiles(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Local{files: t}, nil
}

// maxArchive bounds what a compressed archive may be, in bytes: with its images' layers
// not compressed, and as large as one layer may be.
const maxArchive = 256 << 30

// magicSize is the number of bytes that tell a compression.
const magicSize = 6

// seekable is f, or a file with what f holds. It takes over f.
func seekable(f *os.File, tmp string) (*os.File, error) {
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() {
		var magic [magicSize]byte
		n, _ := f.ReadAt(magic[:], 0) // one that cannot be read is no archive, either
		if !unpack.IsCompressed(magic[:n]) {
			return f, nil
		}
	}
	defer f.Close()
	if err != nil {
		return nil, err
	}
	r, err := unpack.Decompress(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return spool(r, f.Name(), tmp)
}

// spool copies what r holds to a file without a name, which is called name in errors.
func spool(r io.Reader, name, tmp string) (*os.File, error) {
	t, err := os.CreateTemp(tmp, "file-")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(t.Name()); err == nil {
		var n int64
		n, err = io.Copy(t, io.LimitReader(r, maxArchive+1))
		if err == nil && n > maxArchive {
			err = fmt.Errorf("%w: %s unpacks to more than %d GiB", ErrImage, name, maxArchive>>30)
		}
	}
	if err == nil {
		_, err = t.Seek(0, io.SeekStart)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Images lists the images: all, or the one that is called only. Of a name without a
// tag it is the tag "latest"; in a layout it is whatever the layout calls it.
func (l *Local) Images(ctx context.Context, only string, p Platform) ([]*Image, error) {
	if l.podman != nil {
		img, err := l.podman.image(ctx, only, p)
		if err != nil {
			return nil, err
		}
		return []*Image{img}, nil
	}
	if l.has(layoutIndex) {
		return layout{l.files}.images(ctx, only, p)
	}
	if l.has(dockerManifestFile) {
		return dockerArchive{l.files}.images(only)
	}
	return nil, fmt.Errorf("%w: there is neither %s nor %s in it", ErrImage, layoutIndex, dockerManifestFile)
}

// Limits of the images of an archive, whose lists can name one file any number of
// times: maxDocuments bounds their manifests and configurations together in bytes, some
// ten thousand ordinary ones, and maxNames what they are called, each of which becomes a
// file of the store.
const (
	maxDocuments = 64 << 20
	maxNames     = 1024
)

// A tally keeps the images of an archive within those limits.
type tally struct{ documents, names int }

func (t *tally) add(img *Image) error {
	t.documents += len(img.Manifest) + len(img.Config)
	t.names += len(img.Names)
	switch {
	case t.documents > maxDocuments:
		return fmt.Errorf("%w: its images have more than %d MiB of manifests and configurations", ErrImage, maxDocuments>>20)
	case t.names > maxNames:
		return fmt.Errorf("%w: its images have more than %d names", ErrImage, maxNames)
	}
	return nil
}

func (l *Local) has(name string) bool {
	r, _, err := l.open(name)
	if err == nil {
		r.Close()
	}
	return !errors.Is(err, fs.ErrNotExist)
}

// Transports that begin a name of an image outside of a registry.
const (
	transportDir           = "oci:"
	transportArchive       = "oci-archive:"
	transportDockerArchive = "docker-archive:"
	transportStorage       = "containers-storage:"
	transportRegistry      = "docker://"
)

// SplitTransport takes apart TRANSPORT:PATH[:NAME]. Without a transport it returns an
// empty one, and all of s as the name.
func SplitTransport(s string) (transport, path, name string) {
	if rest, ok := strings.CutPrefix(s, transportRegistry); ok {
		return "", "", rest
	}
	if rest, ok := strings.CutPrefix(s, transportStorage); ok {
		path, name = splitStorage(rest)
		return transportStorage, path, name
	}
	for _, t := range []string{transportDir, transportArchive, transportDockerArchive} {
		if rest, ok := strings.CutPrefix(s, t); ok {
			path, name, _ = strings.Cut(rest, ":")
			return t, path, name
		}
	}
	return "", "", s
}

// OpenTransport opens what SplitTransport took apart, for a store, in whose directory
// of unfinished things what must be kept meanwhile is.
func OpenTransport(ctx context.Context, transport, path string, s *store.Store) (*Local, error) {
	switch transport {
	case transportStorage:
		p, err := openPodman(ctx, path, s.Mapping)
		if err != nil {
			return nil, err
		}
		return &Local{podman: p}, nil
	case transportDir:
		return OpenDir(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return OpenArchive(f, filepath.Join(s.Dir, "tmp"))
}

// Close frees what the place holds.
func (l *Local) Close() error {
	if l.podman != nil {
		return l.podman.Close()
	}
	return l.files.Close()
}
