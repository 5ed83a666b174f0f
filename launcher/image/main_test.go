// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
)

func TestMain(m *testing.M) {
	if userns.IsStage(os.Args) {
		os.Exit(stage())
	}
	os.Exit(m.Run())
}

func stage() int {
	if _, _, err := userns.Stage(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return store.Serve()
}

// open opens a new store, in which all files are the caller's if it has no other ids.
func open(t *testing.T) *store.Store {
	t.Helper()
	c, err := userns.Load()
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Default()
	if errors.Is(err, userns.ErrNoSubIDs) {
		m = c.Single()
	} else if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(store.Config{Dir: filepath.Join(t.TempDir(), "store"), Mapping: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := discard(s); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s
}

// discard removes the images and their layers, whose files are not ours to remove.
func discard(s *store.Store) error {
	ids, err := s.ImageIDs()
	for _, id := range ids {
		err = errors.Join(err, s.RemoveImage(id))
	}
	_, gc := s.GC(context.Background(), func(string) bool { return false })
	return errors.Join(err, gc)
}

// layer is a layer of one file, whose content is its name.
func layer(t *testing.T, file string, opts ...tarball.LayerOption) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: file, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(file))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, file); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// build builds an image for linux/arch with a layer for each file.
func build(t *testing.T, arch string, files ...string) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for _, f := range files {
		layers = append(layers, layer(t, f))
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	c.Config.Cmd = []string{"/" + files[0]}
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// A server is a registry on loopback.
type server struct {
	host string
	// wrap sees each request first, and may answer it.
	wrap func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

// serve starts a registry.
func serve(t *testing.T) *server {
	t.Helper()
	s := &server{}
	next := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.wrap != nil {
			s.wrap(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	s.host = strings.TrimPrefix(h.URL, "http://")
	return s
}

// push puts an image or an index into the registry and returns its digest.
func (s *server) push(t *testing.T, tag string, what interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	ref, err := name.ParseReference(s.host + "/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	switch w := what.(type) {
	case v1.Image:
		err = remote.Write(ref, w)
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, w)
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := what.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// put puts a manifest into the registry as it is, and blobs.
func (s *server) put(t *testing.T, tag string, mediaType types.MediaType, manifest []byte, blobs ...[]byte) {
	t.Helper()
	repo, err := name.NewRepository(s.host + "/" + strings.Split(tag, ":")[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		if err := remote.WriteLayer(repo, static.NewLayer(b, types.DockerLayer)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.host+"/v2/"+strings.Replace(tag, ":", "/manifests/", 1), bytes.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", string(mediaType))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("put a manifest: %s", resp.Status)
	}
}

// pull pulls an image into s as `slipway pull` does.
func (s *server) pull(t *testing.T, st *store.Store, tag string) (*store.Image, error) {
	t.Helper()
	return pull(t, st, image.Registry{}, s.host+"/"+tag)
}

func pull(t *testing.T, st *store.Store, r image.Registry, s string) (*store.Image, error) {
	t.Helper()
	n, err := image.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	end, err := st.Pulling(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	img, err := r.Find(t.Context(), n)
	if err != nil {
		return nil, err
	}
	return image.Add(t.Context(), st, img, nil)
}

// has fails the test unless a layer of the image has the file.
func has(t *testing.T, s *store.Store, i *store.Image, file string) {
	t.Helper()
	for _, l := range i.Layers {
		if b, err := os.ReadFile(filepath.Join(s.LayerDir(l), file)); err == nil {
			if string(b) != file {
				t.Errorf("file %s has %q", file, b)
			}
			return
		}
	}
	t.Errorf("file %s is in no layer", file)
}

// nothing fails the test if there is anything in these directories of the store.
func nothing(t *testing.T, s *store.Store, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		entries, err := os.ReadDir(filepath.Join(s.Dir, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("%s/%s is left", d, e.Name())
		}
	}
}
