// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/slipway-net/slipway/launcher/image"
)

// TestAuthResolve looks for credentials in a file that has those of several places.
// None may get those of another.
func TestAuthResolve(t *testing.T) {
	for _, tt := range []struct {
		name   string
		keys   []string // each with itself as the password
		target string
		want   string // empty for nobody
	}{
		{"of the registry", []string{"r.example.com"}, "r.example.com/a/b", "r.example.com"},
		{"of the repository before its registry", []string{"r.example.com", "r.example.com/a", "r.example.com/a/b"}, "r.example.com/a/b", "r.example.com/a/b"},
		{"of another repository", []string{"r.example.com/c"}, "r.example.com/a/b", ""},
		{"of one whose name begins so", []string{"r.example.com/a/bc", "r.example.com/a/b/c"}, "r.example.com/a/b", ""},
		{"of another registry", []string{"example.com", "r.example.com.evil.org", "r.example.com:5000"}, "r.example.com/a/b", ""},
		{"as Docker had it", []string{"https://r.example.com/v1/"}, "r.example.com/a/b", "https://r.example.com/v1/"},
		{"as Docker had it without a scheme", []string{"r.example.com/v1/"}, "r.example.com/a/b", "r.example.com/v1/"},
		{"of Docker's own", []string{"https://index.docker.io/v1/"}, "library/alpine", "https://index.docker.io/v1/"},
		{"of Docker's own by Podman", []string{"docker.io"}, "library/alpine", "docker.io"},
		{"of a namespace of Docker's own by Podman", []string{"docker.io", "docker.io/some"}, "some/app", "docker.io/some"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			auths := map[string]map[string]string{}
			for _, k := range tt.keys {
				auths[k] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(k[len(k)-3:] + ":" + k))}
			}
			b, err := json.Marshal(map[string]any{"auths": auths})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "auth.json")
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			repo, err := name.NewRepository(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			a, err := image.Auth{Files: []string{file}}.Resolve(repo)
			if err != nil {
				t.Fatal(err)
			}
			c, err := a.Authorization()
			if err != nil {
				t.Fatal(err)
			}
			if c.Password != tt.want {
				t.Errorf("credentials of %q, want %q", c.Password, tt.want)
			}
		})
	}
}
