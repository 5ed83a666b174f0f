// SPDX-License-Identifier: Apache-2.0

package overlay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-net/slipway/launcher/overlay"
	"github.com/slipway-net/slipway/launcher/userns"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if !userns.IsStage(os.Args) {
		os.Exit(m.Run())
	}
	if _, _, err := userns.Stage(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(overlay.Serve(os.Stdout, os.Stderr))
}

// TestFind tries the file system of the tests, and asks again.
func TestFind(t *testing.T) {
	c, err := userns.Load()
	if err != nil {
		t.Fatal(err)
	}
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "run", "overlay.json")
	s, err := overlay.Find(t.Context(), dir, file, c.Single())
	if err != nil {
		t.Fatal(err)
	}
	// Where it cannot be had, it must be said why.
	if all := s.Native && s.Upper && s.Data; all != (len(s.Why) == 0) {
		t.Errorf("support %+v: with a reason for what is there, or none for what is missing", s)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if onDisk := fs.Type == unix.EXT4_SUPER_MAGIC || fs.Type == unix.XFS_SUPER_MAGIC || fs.Type == unix.BTRFS_SUPER_MAGIC; onDisk && (major > 6 || major == 6 && minor >= 16) && !s.Data {
		t.Errorf("no data-only layers on Linux %d.%d: %q", major, minor, s.Why)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
	// An answer that is kept is taken: of another one it would be known.
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(string(b[:len(b)-2])+`,"why":["kept"]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = overlay.Find(t.Context(), dir, file, c.Single()); err != nil || len(s.Why) == 0 || s.Why[len(s.Why)-1] != "kept" {
		t.Errorf("support %+v, %v, want what was kept", s, err)
	}
	// That of another mapping, or a broken one, is not.
	for _, junk := range []string{"", "{", `{"version":1,"boot":"another"}`} {
		if err := os.WriteFile(file, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := overlay.Find(t.Context(), dir, file, c.Single()); err != nil || !s.Native {
			t.Errorf("after a file of %q: %+v, %v", junk, s, err)
		}
	}
}
