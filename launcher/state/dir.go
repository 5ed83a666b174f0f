// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// dirMode is the mode of the directories made here: nobody else is to know of a
// user's containers.
const dirMode = 0o700

// RunDir returns the directory for what a reboot ends: slipway in
// $XDG_RUNTIME_DIR, if that belongs to the caller (after su(1) it may be another
// user's), else /tmp/slipway-UID. getenv is normally os.Getenv.
func RunDir(getenv func(string) string) string {
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Uid == uint32(os.Geteuid()) {
			return filepath.Join(dir, "slipway")
		}
	}
	return "/tmp/slipway-" + strconv.Itoa(os.Geteuid())
}

// DataDir returns the directory for what outlives a reboot: slipway in
// $XDG_DATA_HOME or in ~/.local/share. It is empty for a user without a home.
func DataDir(getenv func(string) string) string {
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "slipway")
	}
	if dir := getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".local", "share", "slipway")
	}
	return ""
}

// makeDir makes dir, and those above it, and refuses one that another user owns or
// may write to: in /tmp anybody can have made it first.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at the state directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("state directory %s: it is no directory; remove it", dir)
	case st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("state directory %s: it belongs to user %d; set XDG_RUNTIME_DIR to a directory of your own", dir, st.Uid)
	case st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0:
		return fmt.Errorf("state directory %s: others may write to it; to mend it: chmod 700 %s", dir, dir)
	}
	return nil
}

// writeAtomic replaces the file name in dir. Nothing is synced: what a power cut
// takes is in the past of a boot that has ended.
func writeAtomic(dir, name string, b []byte) error {
	tmp, err := os.CreateTemp(dir, "."+name+"-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}
