// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

func TestPull(t *testing.T) {
	srv := serve(t)
	digest := srv.push(t, "some/app:v1", build(t, "amd64", "one", "two"))
	for _, ref := range []string{"some/app:v1", "some/app@" + digest, "some/app:v2@" + digest} {
		t.Run(ref, func(t *testing.T) {
			s := open(t)
			i, err := pull(t, s, image.Registry{Platform: image.Platform{OS: "linux", Arch: "amd64"}}, srv.host+"/"+ref)
			if err != nil {
				t.Fatal(err)
			}
			has(t, s, i, "one")
			has(t, s, i, "two")
			if i.Config.Cmd[0] != "/one" || i.Size != 6 || i.OS != "linux" || string(i.Manifest) != digest {
				t.Errorf("image %+v", i)
			}
			byDigest, err := s.Ref(srv.host + "/some/app@" + digest)
			if err != nil || byDigest.Image != i.ID || byDigest.Implied != (ref == "some/app:v1") {
				t.Errorf("name by digest %+v, %v", byDigest, err)
			}
			nothing(t, s, "tmp", "trash")
		})
	}
}

// TestPullPlatform pulls from an index.
func TestPullPlatform(t *testing.T) {
	srv := serve(t)
	add := func(arch, variant string, file string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: build(t, arch, file), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch, Variant: variant}}}
	}
	index := mutate.AppendManifests(empty.Index, add("amd64", "", "amd64"), add("arm64", "v8", "arm64"), add("arm", "v6", "armv6"), add("arm", "v7", "armv7"))
	digest := srv.push(t, "app:latest", index)
	for _, tt := range []struct{ platform, want string }{
		{"linux/amd64", "amd64"}, {"x86_64", "amd64"}, {"linux/arm64", "arm64"}, {"linux/arm64/v8", "arm64"}, {"aarch64", "arm64"},
		{"linux/arm/v6", "armv6"}, {"linux/arm/v7", "armv7"}, {"linux/arm/v8", "armv7"}, {"linux/arm", "armv6"},
	} {
		t.Run(tt.platform, func(t *testing.T) {
			p, err := image.ParsePlatform(tt.platform)
			if err != nil {
				t.Fatal(err)
			}
			s := open(t)
			i, err := pull(t, s, image.Registry{Platform: p}, srv.host+"/app")
			if err != nil {
				t.Fatal(err)
			}
			has(t, s, i, tt.want)
			// The image can be found by the digest of the index.
			if r, err := s.Ref(srv.host + "/app@" + digest); err != nil || r.Image != i.ID {
				t.Errorf("name by the index's digest: %+v, %v", r, err)
			}
		})
	}
	_, err := pull(t, open(t), image.Registry{Platform: image.Platform{OS: "linux", Arch: "riscv64"}}, srv.host+"/app")
	if !errors.Is(err, image.ErrPlatform) || !strings.Contains(err.Error(), "linux/arm/v7") {
		t.Errorf("error %v, want one that lists the platforms", err)
	}
}

func TestPullNotThere(t *testing.T) {
	srv := serve(t)
	for _, ref := range []string{"nothing", "nothing@sha256:" + strings.Repeat("a", 64)} {
		s := open(t)
		if _, err := srv.pull(t, s, ref); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: error %v, want not found", ref, err)
		}
		nothing(t, s, "layers", "images", "refs", "blobs", "tmp")
	}
}

// TestPullHostile pulls manifests and blobs that only an attacker or a broken registry
// sends. Nothing must remain of them.
func TestPullHostile(t *testing.T) {
	img := build(t, "amd64", "one", "two")
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	encode := func(change func(m *v1.Manifest)) []byte {
		c := m.DeepCopy()
		change(c)
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// withConfig is a manifest with another configuration.
	withConfig := func(config []byte) ([]byte, []byte) {
		return encode(func(m *v1.Manifest) {
			m.Config.Size = int64(len(config))
			m.Config.Digest, _ = v1.NewHash(string(store.DigestOf(config)))
		}), config
	}
	const manifestType = types.DockerManifestSchema2
	for _, tt := range []struct {
		name     string
		manifest []byte
		config   []byte
		want     error
		says     string
	}{
		{name: "not JSON", manifest: []byte("<html>"), want: image.ErrImage},
		{name: "endless", manifest: []byte(`{"a":"` + strings.Repeat("x", store.MaxBlob) + `"}`), want: image.ErrImage, says: "larger than"},
		{name: "nothing in it", manifest: []byte("{}"), want: image.ErrImage},
		{name: "schema 1", manifest: []byte(`{"schemaVersion":1}`), want: image.ErrImage, says: "schema 1"},
		{name: "index as well", manifest: []byte(`{"schemaVersion":2,"config":{"digest":"` + string(store.DigestOf(config)) + `"},"manifests":[{"digest":"` + string(store.DigestOf(config)) + `"}]}`), want: image.ErrImage, says: "index as well"},
		{name: "a layer is missing", manifest: encode(func(m *v1.Manifest) { m.Layers = m.Layers[:1] }), want: image.ErrImage, says: "layers"},
		{name: "a layer too many", manifest: encode(func(m *v1.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }), want: image.ErrImage, says: "layers"},
		{name: "layers exchanged", manifest: encode(func(m *v1.Manifest) { m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0] }), want: store.ErrDigest},
		{name: "a layer that the registry lacks", manifest: encode(func(m *v1.Manifest) { m.Layers[1].Digest.Hex = strings.Repeat("a", 64) }), want: store.ErrNotFound},
		{name: "a layer of another size", manifest: encode(func(m *v1.Manifest) { m.Layers[1].Size++ }), want: store.ErrDigest},
		{name: "a layer of a negative size", manifest: encode(func(m *v1.Manifest) { m.Layers[1].Size = -5 }), want: image.ErrImage, says: "size"},
		{name: "layers of sizes without a sum", manifest: encode(func(m *v1.Manifest) { m.Layers[0].Size, m.Layers[1].Size = 1<<62, 1<<62 }), want: image.ErrImage, says: "size"},
		{name: "configuration of another size", manifest: encode(func(m *v1.Manifest) { m.Config.Size = 1 << 40 }), want: image.ErrImage, says: "at most"},
		{name: "a chart", manifest: encode(func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), want: image.ErrImage, says: "not the files of a container"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, img, tt.manifest, tt.config, manifestType, tt.want, tt.says)
		})
	}
	for _, tt := range []struct {
		name, config, says string
	}{
		{"not JSON", "junk", "configuration"},
		{"for Windows", `{"os":"windows","rootfs":{"type":"layers"}}`, "windows"},
		{"without a root", `{"os":"linux"}`, "root"},
		{"too many layers", `{"os":"linux","rootfs":{"type":"layers","diff_ids":[` + strings.Repeat(`"sha256:`+strings.Repeat("a", 64)+`",`, image.MaxLayers) + `"sha256:` + strings.Repeat("a", 64) + `"]}}`, "more than"},
		{"a digest that leads out", `{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:../../../../x"]}}`, "configuration"},
	} {
		t.Run("configuration "+tt.name, func(t *testing.T) {
			manifest, config := withConfig([]byte(tt.config))
			refused(t, img, manifest, config, manifestType, image.ErrImage, tt.says)
		})
	}
}

// refused pulls a manifest that must be refused.
func refused(t *testing.T, img v1.Image, manifest, config []byte, mt types.MediaType, want error, says string) {
	t.Helper()
	srv := serve(t)
	srv.push(t, "app:good", img)
	if config != nil {
		srv.put(t, "app:bad", mt, manifest, config)
	} else if json.Valid(manifest) && len(manifest) < store.MaxBlob {
		srv.put(t, "app:bad", mt, manifest)
	} else {
		srv.wrap = answer("/manifests/bad", string(mt), manifest)
	}
	s := open(t)
	_, err := srv.pull(t, s, "app:bad")
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
		t.Errorf("error %v, want one line of %v with %q", err, want, says)
	}
	nothing(t, s, "images", "refs", "tmp")
}

// answer answers the requests whose path has the suffix, and leaves others alone.
func answer(suffix, mediaType string, body []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(body)
	}
}

// TestPullWrongManifest asks by digest, and gets another manifest.
func TestPullWrongManifest(t *testing.T) {
	srv := serve(t)
	digest := srv.push(t, "app:v1", build(t, "amd64", "one"))
	other, err := build(t, "amd64", "other").RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	srv.wrap = answer("/manifests/"+digest, string(types.DockerManifestSchema2), other)
	if _, err := srv.pull(t, open(t), "app@"+digest); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("error %v, want one of the digest", err)
	}
}

// TestPullResumes has the connection break off in the middle of a layer, more than
// once.
func TestPullResumes(t *testing.T) {
	srv := serve(t)
	img := build(t, "amd64", "one")
	srv.push(t, "app:v1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	blob := make([]byte, 64<<10)
	n, _ := rc.Read(blob)
	blob = blob[:n]
	var ranges atomic.Int64
	srv.wrap = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+digest.String()) || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		off := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &off); err == nil {
			ranges.Add(1)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, len(blob)-1, len(blob)))
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)-off))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		}
		end := min(off+len(blob)/3+1, len(blob))
		_, _ = w.Write(blob[off:end])
		if end < len(blob) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler) // closes the connection
		}
	}
	s := open(t)
	i, err := srv.pull(t, s, "app:v1")
	if err != nil {
		t.Fatal(err)
	}
	has(t, s, i, "one")
	if ranges.Load() != 2 {
		t.Errorf("the rest was asked for %d times, want 2", ranges.Load())
	}
}

// TestPullRefusedEarly pulls a large layer whose first file is refused: the rest of it
// must not be fetched.
func TestPullRefusedEarly(t *testing.T) {
	const size = 64 << 20
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{{Name: "../out", Typeflag: tar.TypeReg}, {Name: "large", Typeflag: tar.TypeReg, Size: size}} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(make([]byte, size+1024))
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(b.Bytes(), types.DockerUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS = "linux"
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	srv := serve(t)
	srv.push(t, "app:v1", img)
	var sent atomic.Int64
	srv.wrap = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&countedWriter{w, &sent}, r)
	}
	s := open(t)
	_, err = srv.pull(t, s, "app:v1")
	if err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("error %v, want one of the name that leads out", err)
	}
	if n := sent.Load(); n > size/2 {
		t.Errorf("%d bytes were fetched all the same", n)
	}
	nothing(t, s, "layers", "images", "tmp")
}

// A countedWriter counts what is sent.
type countedWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// TestPullRedirectedForever asks a registry that sends us round in a circle.
func TestPullRedirectedForever(t *testing.T) {
	srv := serve(t)
	var asked atomic.Int64
	srv.wrap = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			next.ServeHTTP(w, r)
			return
		}
		asked.Add(1)
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	}
	_, err := srv.pull(t, open(t), "app:v1")
	if err == nil || !strings.Contains(err.Error(), "redirections") {
		t.Errorf("error %v, want one of redirections", err)
	}
	if n := asked.Load(); n > 50 {
		t.Errorf("the registry was asked %d times", n)
	}
}
