// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	"github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// imageLayers is how many layers the image of files has: about what images of
// applications have that people wrote themselves.
const imageLayers = 4

// imageDir is how many files are in one of its directories.
const imageDir = 100

// imageSizes are the sizes of its files as multiples of the smallest, again and again:
// many small files, and most bytes in few, as in an image of a distribution.
var imageSizes = [...]struct{ size, times int }{{1, 16}, {8, 8}, {64, 2}, {256, 1}}

// What the files hold: so many random bytes, which nothing packs, at the beginning of
// each page. So gzip makes about 0.4 of it, as of programs and libraries.
const (
	imagePage   = 4 << 10
	imageRandom = imagePage * 2 / 5
	imagePool   = 8 << 20 // bytes that files are cut out of
)

// imageTime is the time of all its files: images of the same files are the same.
var imageTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A layerWriter writes the files of a layer.
type layerWriter func(w *tar.Writer) error

// writeLayout writes an OCI image layout with one image of the layers, and returns the
// digest of its manifest.
func writeLayout(dir, name string, layers ...layerWriter) (digest.Digest, error) {
	blobs := filepath.Join(dir, v1.ImageBlobsDir, string(digest.SHA256))
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return "", fmt.Errorf("write an image: %w", err)
	}
	config := v1.Image{
		Created: &imageTime, Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config: v1.ImageConfig{Cmd: []string{programName}, Env: []string{"PATH=" + enginePath}},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: make([]digest.Digest, len(layers))},
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: make([]v1.Descriptor, len(layers))}
	var g errgroup.Group
	for i, l := range layers {
		g.Go(func() (err error) {
			manifest.Layers[i], config.RootFS.DiffIDs[i], err = writeLayer(blobs, l)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", fmt.Errorf("write a layer of an image: %w", err)
	}
	var err error
	if manifest.Config, err = writeBlob(blobs, v1.MediaTypeImageConfig, config); err != nil {
		return "", fmt.Errorf("write an image: %w", err)
	}
	top, err := writeBlob(blobs, v1.MediaTypeImageManifest, manifest)
	if err != nil {
		return "", fmt.Errorf("write an image: %w", err)
	}
	top.Annotations = map[string]string{v1.AnnotationRefName: name}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{top}}
	return top.Digest, errors.Join(
		writeJSON(filepath.Join(dir, v1.ImageIndexFile), index),
		writeJSON(filepath.Join(dir, v1.ImageLayoutFile), v1.ImageLayout{Version: v1.ImageLayoutVersion}))
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// writeBlob writes a JSON blob.
func writeBlob(blobs, mediaType string, v any) (v1.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return d, os.WriteFile(filepath.Join(blobs, d.Digest.Encoded()), b, 0o644)
}

// writeLayer writes a layer's blob, packed by gzip, and returns the digest of what is in
// it besides.
func writeLayer(blobs string, l layerWriter) (v1.Descriptor, digest.Digest, error) {
	f, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer f.Close()
	var packed, plain hash.Hash = sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, packed), gzip.BestSpeed)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	w := tar.NewWriter(io.MultiWriter(z, plain))
	if err := errors.Join(l(w), w.Close(), z.Close(), f.Chmod(0o644)); err != nil {
		return v1.Descriptor{}, "", err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	d := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: digest.NewDigest(digest.SHA256, packed), Size: size}
	return d, digest.NewDigest(digest.SHA256, plain), os.Rename(f.Name(), filepath.Join(blobs, d.Digest.Encoded()))
}

// rootLayer is the containers' root as a layer, which belongs to root.
func (y *yard) rootLayer(w *tar.Writer) error {
	for _, name := range rootDirs {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: imageTime}); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: programName[1:], Mode: 0o755, Size: int64(len(y.program)), ModTime: imageTime}); err != nil {
		return err
	}
	_, err := w.Write(y.program)
	return err
}

// fileLayers returns the layers of an image of so many files with so many bytes, beyond
// the containers' root.
func fileLayers(files int, bytes int64) []layerWriter {
	pool := make([]byte, imagePool)
	random := rand.NewChaCha8([32]byte{2})
	for at := 0; at < len(pool); at += imagePage {
		_, _ = random.Read(pool[at : at+imageRandom]) // never fails
		copy(pool[at+imageRandom:at+imagePage], "The same words in each page, which gzip finds. ")
	}
	var all []layerWriter
	for i := range imageLayers {
		first, end := files*i/imageLayers, files*(i+1)/imageLayers
		all = append(all, func(w *tar.Writer) error { return writeFiles(w, pool, i, first, end, fileSizes(files, bytes)) })
	}
	return all
}

// fileSizes returns the size of each file.
func fileSizes(files int, bytes int64) func(n int) int64 {
	var pattern []int64
	sum := int64(0)
	for _, s := range imageSizes {
		for range s.times {
			pattern = append(pattern, int64(s.size))
			sum += int64(s.size)
		}
	}
	// Of the whole pattern's bytes, so that rounding does not add up.
	share := float64(bytes) / float64(files) * float64(len(pattern)) / float64(sum)
	return func(n int) int64 { return int64(float64(pattern[n%len(pattern)]) * share) }
}

// writeFiles writes the files from first to end, with the directories that they are in.
func writeFiles(w *tar.Writer, pool []byte, layer, first, end int, size func(n int) int64) error {
	for n := first; n < end; n++ {
		top := fmt.Sprintf("files/%d", layer)
		dir := fmt.Sprintf("%s/%d", top, n/imageDir)
		var dirs []string // that begin here: no layer names one twice
		switch {
		case n == first:
			dirs = []string{"files", top, dir}
		case n%imageDir == 0:
			dirs = []string{dir}
		}
		for _, name := range dirs {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: imageTime}); err != nil {
				return err
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s/%d", dir, n), Mode: 0o644, Size: size(n), ModTime: imageTime}
		if n%10 == 0 {
			h.Uid, h.Gid = 33, 33 // some belong to a service, as www-data's do in Debian
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		// Each file begins at another page, so that no two are the same.
		for at, left := n%(len(pool)/imagePage)*imagePage, h.Size; left > 0; at = 0 {
			part := pool[at:min(int64(len(pool)), int64(at)+left)]
			if _, err := w.Write(part); err != nil {
				return err
			}
			left -= int64(len(part))
		}
	}
	return nil
}
