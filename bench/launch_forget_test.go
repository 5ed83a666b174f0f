// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNewStore gives each pull an empty store of its own, and leaves those before it.
func TestNewStore(t *testing.T) {
	y := &yard{dir: t.TempDir(), stores: map[string]string{}}
	var all []string
	for range 2 {
		for _, name := range []string{"podman", "slipway"} {
			if err := y.newStore(Subject{Name: name}); err != nil {
				t.Fatal(err)
			}
			store := y.storeOf(Subject{Name: name})
			if entries, err := os.ReadDir(store); err != nil || len(entries) > 0 {
				t.Errorf("%s: %d files, %v; want an empty directory", store, len(entries), err)
			}
			if err := os.WriteFile(filepath.Join(store, "image"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			all = append(all, store)
		}
	}
	for _, store := range all {
		if _, err := os.Stat(filepath.Join(store, "image")); err != nil {
			t.Errorf("a store did not stay: %v", err)
		}
	}
}

// TestSpread sets the flag where the file system has such flags, and else does nothing.
func TestSpread(t *testing.T) {
	dir := t.TempDir()
	spread(filepath.Join(dir, "none"))
	spread(dir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skipf("file system %#x: no ext4", fs.Type)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&topDir == 0 {
		t.Errorf("flags %#x, %v; want %#x among them", flags, err, topDir)
	}
}

// TestRoomForStore asks for more than any disk has.
func TestRoomForStore(t *testing.T) {
	y := &yard{dir: t.TempDir()}
	if err := y.roomForStore(); err != nil {
		t.Errorf("nothing: %v, want room for it", err)
	}
	y.plan.Megabytes = 1 << 50
	if err := y.roomForStore(); err == nil || !strings.Contains(err.Error(), "-size") {
		t.Errorf("2^51 MB: %v, want an error that says what to do", err)
	}
}
