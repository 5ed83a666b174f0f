// SPDX-License-Identifier: Apache-2.0

package overlay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/launcher/overlay"
	"github.com/slipway-net/slipway/launcher/userns"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if !userns.IsStage(os.Args) {
		os.Exit(m.Run())
	}
	name, args, err := userns.Stage(os.Args)
	if err == nil && name == deepStage {
		err = deep(args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if name == deepStage {
		return
	}
	os.Exit(overlay.Serve(args, os.Stdout, os.Stderr))
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
	if err := os.WriteFile(file, []byte(string(b[:len(b)-len("}}]")])+`,"why":["kept"]}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = overlay.Find(t.Context(), dir, file, c.Single()); err != nil || len(s.Why) == 0 || s.Why[len(s.Why)-1] != "kept" {
		t.Errorf("support %+v, %v, want what was kept", s, err)
	}
	// Those of others in turn, as many as they are, are kept beside it, but not without end.
	if two, err := c.Default(); err == nil {
		for range 2 {
			if s, err = overlay.Find(t.Context(), dir, file, two); err != nil || slices.Contains(s.Why, "kept") {
				t.Errorf("for other ids: %+v, %v", s, err)
			}
			if s, err = overlay.Find(t.Context(), dir, file, c.Single()); err != nil || !slices.Contains(s.Why, "kept") {
				t.Errorf("after that for other ids: %+v, %v, want what was kept", s, err)
			}
		}
	}
	var all []json.RawMessage
	if b, err = os.ReadFile(file); err != nil || json.Unmarshal(b, &all) != nil {
		t.Fatalf("%s: %v", b, err)
	}
	other := strings.Replace(string(all[0]), `"dev":`, `"dev":9`, 1)
	if err := os.WriteFile(file, []byte("["+strings.Repeat(other+",", 20)+other+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := overlay.Find(t.Context(), dir, file, c.Single()); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(file); err != nil || json.Unmarshal(b, &all) != nil || len(all) != 8 {
		t.Errorf("%d answers are kept, %v", len(all), err)
	}
	// That of another version, or a broken one, is not.
	for _, junk := range []string{"", "{", `{"version":1,"boot":"another"}`} {
		if err := os.WriteFile(file, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := overlay.Find(t.Context(), dir, file, c.Single()); err != nil || !s.Native {
			t.Errorf("after a file of %q: %+v, %v", junk, s, err)
		}
	}
}

// deepStage is a stage of this test, which tries where the kernel's overlayfs cannot be.
const deepStage = "deep"

// deep probes a directory on an overlay over another, above which the kernel refuses a
// third (FILESYSTEM_MAX_STACK_DEPTH), and prints the answer.
func deep(path string) error {
	if err := os.Setenv("PATH", path); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", ".", "tmpfs", 0, ""); err != nil {
		return err
	}
	wd, err := os.Getwd() // the directory below the tmpfs is still the current one
	if err == nil {
		err = os.Chdir(wd)
	}
	for _, d := range []string{"low", "up1", "work1", "at1", "up2", "work2", "at2"} {
		if err == nil {
			err = os.Mkdir(d, 0o755)
		}
	}
	if err == nil {
		err = unix.Mount("overlay", "at1", "overlay", 0, "userxattr,lowerdir=low,upperdir=up1,workdir=work1")
	}
	if err == nil {
		err = unix.Mount("overlay", "at2", "overlay", 0, "userxattr,lowerdir=at1,upperdir=up2,workdir=work2")
	}
	if err != nil {
		return err
	}
	c, err := userns.Load()
	if err != nil {
		return err
	}
	s, err := overlay.Probe(context.Background(), filepath.Join(wd, "at2"), c.Single())
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// TestFuse is a probe where the kernel cannot: fuse-overlayfs is found to do, and
// without it or its device it is said what is missing.
func TestFuse(t *testing.T) {
	attachtest.NeedTools(t, overlay.FuseName)
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		attachtest.Unavailable(t, "/dev/fuse: "+err.Error())
	}
	c, err := userns.Load()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{os.Getenv("PATH"): "", t.TempDir(): "not installed"} {
		var out, errs bytes.Buffer
		cmd := userns.Command(t.Context(), c.Single(), deepStage, path)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Namespaces = t.TempDir(), &out, &errs, unix.CLONE_NEWNS
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v: %s", err, errs.String())
		}
		var s overlay.Support
		if err := json.Unmarshal(out.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		why := strings.Join(s.Why, "; ")
		if s.Native || (want == "") != (s.Fuse != "") || !strings.Contains(why, want) || !strings.Contains(why, "mount overlayfs") {
			t.Errorf("with %q in PATH: %+v, want %q", path, s, want)
		}
	}
}
