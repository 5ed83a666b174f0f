// SPDX-License-Identifier: Apache-2.0

package tarsplit

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenList takes a file, and nothing that would wait or lead elsewhere.
func TestOpenList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := openList(at("file"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, name := range []string{"link", "pipe", "none", "."} {
		if f, err := openList(at(name)); err == nil {
			f.Close()
			t.Errorf("%s is taken for a list", name)
		}
	}
}
