// SPDX-License-Identifier: Apache-2.0

package unpack_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher/unpack"
)

// TestUmoci unpacks layers one upon the other and compares that with what umoci makes
// of the same image.
func TestUmoci(t *testing.T) {
	umoci, err := exec.LookPath("umoci")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%v: install umoci", err)
	}
	big := strings.Repeat("0123456789abcdef", 40<<10)
	layers := [][]byte{
		pack(t, dir("bin/"), file("bin/sh", big), hardlink("bin/ash", "bin/sh"), symlink("lib", "usr/lib"), dir("usr/"), dir("usr/lib/"), file("usr/lib/x", "X"),
			dir("etc/"), file("etc/passwd", "root"), file("etc/group", "wheel"), dir("var/"), dir("var/log/"), file("var/log/a", "A"), entry{name: "pipe", kind: '6'},
			entry{name: "closed/", kind: '5', mode: 0o700}, file("closed/in", "I"), file("twice", "1"), file("twice", "2")),
		pack(t, dir("etc/"), whiteout("etc/.wh.passwd"), file("etc/new", "N"), dir("var/"), dir("var/log/"), whiteout("var/log/.wh..wh..opq"), file("var/log/b", "B"),
			dir("bin/"), entry{name: "bin/sh", mode: 0o755, content: "new"}),
		pack(t, whiteout(".wh.pipe"), whiteout(".wh.closed"), dir("etc/"), dir("etc/group/"), file("etc/group/x", "now a directory"), file("usr", "now a file")),
	}
	for n := 1; n <= len(layers); n++ {
		t.Run(fmt.Sprint(n, " layers"), func(t *testing.T) {
			theirs := filepath.Join(t.TempDir(), "bundle")
			out, err := exec.Command(umoci, "unpack", "--rootless", "--image", ociLayout(t, layers[:n])+":latest", theirs).CombinedOutput()
			if err != nil {
				t.Fatalf("umoci: %v: %s", err, out)
			}
			ours := cloneOf(t, layers[:n])
			if diff := cmp.Diff(tree(t, filepath.Join(theirs, "rootfs")), tree(t, filepath.Join(ours.dir, "fs"))); diff != "" {
				t.Errorf("files (-umoci +slipway):\n%s", diff)
			}
		})
	}
}

// cloneOf unpacks archives and makes one tree of them.
func cloneOf(t *testing.T, archives [][]byte) *place {
	t.Helper()
	to := newPlace(t)
	c := unpack.CloneConfig{Root: to.root, Owner: func(uint32, uint32) (int, int, error) { return os.Getuid(), os.Getgid(), nil }}
	for _, a := range archives {
		p := newPlace(t)
		if _, err := p.unpack(a); err != nil {
			t.Fatal(err)
		}
		c.Layers = append(c.Layers, p.root)
	}
	if err := unpack.Clone(c); err != nil {
		t.Fatal(err)
	}
	return to
}

// tree describes files by kind, mode, size, links, time and content.
func tree(t *testing.T, base string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(base, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(base, name)
		when := fmt.Sprint(st.ModTime().Unix())
		if rel == "." || rel == "usr/lib" {
			when = "-" // of a directory that no entry tells of
		}
		line := fmt.Sprint(rel, " ", st.Mode(), " ", when, " ")
		if d.Type().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf("%x", sha256.Sum256(b))[:8]
		}
		if d.Type() == fs.ModeSymlink {
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += to
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// ociLayout writes an image of the layers in the layout of the OCI, and returns its
// directory.
func ociLayout(t *testing.T, layers [][]byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	put := func(mediaType string, b []byte) descriptor {
		t.Helper()
		hex := fmt.Sprintf("%x", sha256.Sum256(b))
		if err := os.WriteFile(filepath.Join(dir, "blobs/sha256", hex), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return descriptor{MediaType: mediaType, Digest: "sha256:" + hex, Size: len(b)}
	}
	encode := func(v any) []byte {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var blobs []descriptor
	var diffIDs []string
	for _, l := range layers {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(l); err != nil {
			t.Fatal(err)
		}
		z.Close()
		blobs = append(blobs, put("application/vnd.oci.image.layer.v1.tar+gzip", b.Bytes()))
		diffIDs = append(diffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(l)))
	}
	config := put("application/vnd.oci.image.config.v1+json", encode(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}))
	manifest := put("application/vnd.oci.image.manifest.v1+json", encode(map[string]any{"schemaVersion": 2, "config": config, "layers": blobs}))
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "latest"}
	for name, b := range map[string][]byte{
		"index.json": encode(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}}),
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
