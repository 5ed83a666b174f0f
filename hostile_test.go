// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestErrorsDoNotControlTerminals loads an archive whose error has in it what the
// archive says, here the sequences by which a terminal is told its title and colour.
func TestErrorsDoNotControlTerminals(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "archive"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const manifest = `[{"Config":"\u001b]0;title\u0007\u001b[31mfile\nslipway: all is well","Layers":[]}]`
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(manifest))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(manifest)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := slipway(t, "load", "--root", filepath.Join(dir, "store"), "-i", f.Name())
	if got.code != 1 || !strings.Contains(got.stderr, "file") {
		t.Errorf("got %+v, want an error about the file", got)
	}
	if strings.ContainsAny(got.stderr, "\x1b\x07") || strings.Contains(got.stderr, "\nslipway: all is well") {
		t.Errorf("standard error %q controls the terminal or forges a line", got.stderr)
	}
}
