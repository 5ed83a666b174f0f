// SPDX-License-Identifier: Apache-2.0

package stagefile

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTrusted takes a file of real root's for a stage, unless it is another, or the
// caller's own, or cannot be executed, or the caller is real root.
func TestTrusted(t *testing.T) {
	t.Parallel()
	const roots, text = "/bin/sh", "/etc/passwd"
	b, err := os.ReadFile(roots)
	if err != nil {
		t.Fatal(err)
	}
	textb, err := os.ReadFile(text)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), Name)
	if err := os.WriteFile(own, b, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path, stage string
		want              bool
	}{
		{"root's", roots, string(b), os.Geteuid() != 0},
		{"one that is longer", roots, string(b[1:]), false},
		{"one of another build", roots, "x" + string(b[1:]), false},
		{"one that cannot be executed", text, string(textb), false},
		{"the caller's", own, string(b), false},
		{"a directory", "/etc", string(b), false},
	} {
		f, err := os.Open(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := trusted(int(f.Fd()), tt.stage); got != tt.want {
			t.Errorf("%s: trusted %t, want %t", tt.name, got, tt.want)
		}
		f.Close()
	}
}
