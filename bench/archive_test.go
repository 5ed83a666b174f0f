// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchive packs and unpacks more than two layers, of which two are left.
func TestArchive(t *testing.T) {
	const least = 2*archiveLayer + archiveLayer/8
	r, w := io.Pipe()
	go func() { w.CloseWithError(writeArchive(w, least)) }()
	dir := t.TempDir()
	files, n, err := unpack(r, dir)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n < least || files < 1000 || len(left) != 2 {
		t.Errorf("%d files with %d bytes, %d layers left; want 1000 or more with %d or more, and 2", files, n, len(left), least)
	}
	total := int64(0)
	err = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return err
	})
	if err != nil || total >= n || total < archiveLayer {
		t.Errorf("%d bytes are left of %d, error %v", total, n, err)
	}
}

func TestUnpackBad(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "../out", Size: 0, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for name, in := range map[string]io.Reader{"leads out": &b, "no archive": strings.NewReader(strings.Repeat("x", 1024))} {
		if _, _, err := unpack(in, t.TempDir()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
