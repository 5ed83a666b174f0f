// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

// getJSON reads a JSON document from the registry.
func getJSON(t *testing.T, url string, v any) {
	t.Helper()
	if err := json.Unmarshal(get(t, url, http.StatusOK), v); err != nil {
		t.Fatal(err)
	}
}

// get returns what the registry answers, whose status must be the one that is wanted.
func get(t *testing.T, url string, want int) []byte {
	t.Helper()
	a, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != want {
		t.Fatalf("%s: %s, error %v, want %d", url, a.Status, err, want)
	}
	return b
}

// TestImage makes an image, serves it, and reads it as an engine does.
func TestImage(t *testing.T) {
	const files, bytes = 250, 1_000_000
	dir := t.TempDir()
	manifest, err := writeLayout(dir, "latest", fileLayers(files, bytes)...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := startRegistry(dir, registryName, manifest)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	at := "http://" + r.addr + "/v2/" + registryName
	get(t, "http://"+r.addr+"/v2/", http.StatusOK)
	for _, none := range []string{"/manifests/other", "/blobs/latest", "/blobs/sha256:..", "/blobs/" + manifest.Algorithm().FromString("none").String()} {
		get(t, at+none, http.StatusNotFound)
	}
	var m v1.Manifest
	getJSON(t, at+"/manifests/latest", &m)
	var config v1.Image
	getJSON(t, at+"/blobs/"+m.Config.Digest.String(), &config)
	if len(m.Layers) != imageLayers || len(config.RootFS.DiffIDs) != imageLayers {
		t.Fatalf("%d layers and %d of the config, want %d", len(m.Layers), len(config.RootFS.DiffIDs), imageLayers)
	}
	seen, total := map[string]bool{}, int64(0)
	for i, l := range m.Layers {
		blob := get(t, at+"/blobs/"+l.Digest.String(), http.StatusOK)
		if int64(len(blob)) != l.Size || l.Digest.Algorithm().FromBytes(blob) != l.Digest {
			t.Errorf("layer %d: %d bytes, want %d with digest %s", i, len(blob), l.Size, l.Digest)
		}
		total += readLayer(t, filepath.Join(dir, v1.ImageBlobsDir, "sha256", l.Digest.Encoded()), config.RootFS.DiffIDs[i].Encoded(), seen)
	}
	if len(seen) != files {
		t.Errorf("%d files that differ, want %d", len(seen), files)
	}
	if off := math.Abs(float64(total)/bytes - 1); off > 0.1 {
		t.Errorf("%d bytes, want about %d", total, bytes)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "layer-*")); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, error %v", files, err)
	}
}

// readLayer returns the bytes of a layer's files, whose contents it adds to seen. No
// name may be there twice, which Podman does not take.
func readLayer(t *testing.T, path, diffID string, seen map[string]bool) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	plain, names, total := sha256.New(), map[string]bool{}, int64(0)
	all := io.TeeReader(z, plain)
	for r := tar.NewReader(all); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if names[h.Name] {
			t.Errorf("%s is there twice", h.Name)
		}
		names[h.Name] = true
		if h.Typeflag == tar.TypeReg {
			sum := sha256.New()
			n, err := io.Copy(sum, r)
			if err != nil {
				t.Fatal(err)
			}
			total += n
			seen[string(sum.Sum(nil))] = true
		}
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", plain.Sum(nil)); got != diffID {
		t.Errorf("the layer's contents have the digest %s, the config says %s", got, diffID)
	}
	return total
}

// TestDiskUse counts files on the disk, one with two names once.
func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	before, err := countBlocks(dir)
	if err != nil {
		t.Fatal(err)
	}
	one := filepath.Join(dir, "one")
	if err := errors.Join(os.WriteFile(one, make([]byte, 100_000), 0o600), os.Link(one, filepath.Join(dir, "two"))); err != nil {
		t.Fatal(err)
	}
	after, err := countBlocks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Bytes - before.Bytes; n < 100_000 || n >= 200_000 || after.Files != before.Files+1 {
		t.Errorf("%d bytes and %d files more, want one of 100000", n, after.Files-before.Files)
	}
	if _, err := countBlocks(filepath.Join(dir, "none")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestIDsOutside(t *testing.T) {
	outside := idsOutside("         0     100000       1001\n      1001       1001          1\nnonsense\n")
	for id, want := range map[uint32]uint32{0: 100000, 1000: 101000, 1001: 1001} {
		if got, ok := outside(id); !ok || got != want {
			t.Errorf("%d is %d outside (known: %v), want %d", id, got, ok, want)
		}
	}
	if got, ok := outside(1002); ok {
		t.Errorf("1002 is %d outside", got)
	}
}

func FuzzIDsOutside(f *testing.F) {
	f.Add("0 100000 1001\n1001 1001 1\n", uint32(1001))
	f.Fuzz(func(_ *testing.T, s string, id uint32) { idsOutside(s)(id) })
}
