// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

// TestPullForeignLayer pulls a layer that the registry lacks and that can be had, as
// the manifest says, from another place: that must not be asked.
func TestPullForeignLayer(t *testing.T) {
	var asked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	srv := serve(t)
	img := build(t, "amd64", "one")
	srv.push(t, "app:good", img)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m = m.DeepCopy()
	m.Layers[0].MediaType = types.DockerForeignLayer
	m.Layers[0].Digest.Hex = strings.Repeat("a", 64)
	m.Layers[0].URLs = []string{elsewhere.URL + "/layer"}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	srv.wrap = answer("/manifests/bad", string(types.DockerManifestSchema2), b)
	if _, err := srv.pull(t, open(t), "app:bad"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("error %v, want not found", err)
	}
	if asked.Load() != 0 {
		t.Error("the place that the manifest names was asked")
	}
}

// TestPullRedirectedElsewhere has a registry that wants credentials send us to another
// host, which must not get them.
func TestPullRedirectedElsewhere(t *testing.T) {
	srv := serve(t)
	srv.push(t, "app:v1", build(t, "amd64", "one"))
	port := srv.host[strings.LastIndexByte(srv.host, ':')+1:]
	var here, there, leaked atomic.Int64
	srv.wrap = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		user, _, ok := r.BasicAuth()
		switch {
		case strings.HasPrefix(r.Host, "localhost:"):
			there.Add(1)
			if ok || r.Header.Get("Authorization") != "" {
				leaked.Add(1)
			}
			next.ServeHTTP(w, r)
		case !ok:
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "/blobs/") || strings.Contains(r.URL.Path, "/manifests/"):
			if user == "user" {
				here.Add(1)
			}
			http.Redirect(w, r, "http://localhost:"+port+r.URL.Path, http.StatusTemporaryRedirect)
		default:
			next.ServeHTTP(w, r)
		}
	}
	file := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(file, []byte(`{"auths":{"`+srv.host+`":{"auth":"dXNlcjpzZWNyZXQ="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pull(t, open(t), image.Registry{Auth: image.Auth{Files: []string{file}}}, srv.host+"/app:v1"); err != nil {
		t.Fatal(err)
	}
	if here.Load() == 0 || there.Load() == 0 || leaked.Load() != 0 {
		t.Errorf("%d requests with credentials, %d to the other host, %d of those with credentials", here.Load(), there.Load(), leaked.Load())
	}
}
