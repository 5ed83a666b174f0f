// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dirName is our directory's below those of others.
const dirName = "slipway-cni"

// dirMode lets nobody else look.
const dirMode = 0o700

// wholeMap is /proc/self/uid_map in the user namespace that the machine started with.
const wholeMap = "0 0 4294967295"

// Dir returns the directory that the state is in, which Open makes: that of the
// configuration, if it is not empty; for root of the machine /run/slipway-cni; for
// others that below XDG_RUNTIME_DIR or, where a runtime does not pass that on, below
// /run/user of the user outside of the user namespace, or for root of a user namespace
// /run, where it may write there; and else one in /tmp.
func Dir(configured string) (string, error) {
	if configured != "" {
		return filepath.Clean(configured), nil
	}
	outside, whole, err := outsideUser()
	if err != nil {
		return "", err
	}
	if whole && os.Geteuid() == 0 {
		return filepath.Join("/run", dirName), nil
	}
	dirs := []string{os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", outside)}
	if os.Geteuid() == 0 {
		dirs = append(dirs, "/run")
	}
	for _, dir := range dirs {
		if filepath.IsAbs(dir) && unix.Access(dir, unix.W_OK) == nil {
			return filepath.Join(dir, dirName), nil
		}
	}
	return fmt.Sprintf("/tmp/%s-%d", dirName, outside), nil
}

// outsideUser returns who we are in the parent of our user namespace, and whether that
// is all of the machine.
func outsideUser() (uid int, whole bool, err error) {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return 0, false, fmt.Errorf("find out who we are: %w", err)
	}
	if strings.Join(strings.Fields(string(text)), " ") == wholeMap {
		return os.Geteuid(), true, nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var in, out, n int
		if _, err := fmt.Sscan(lines.Text(), &in, &out, &n); err == nil && os.Geteuid() >= in && os.Geteuid() < in+n {
			return out + os.Geteuid() - in, false, nil
		}
	}
	return os.Geteuid(), false, nil
}

// makeDir makes a directory of ours. One that is there must be ours alone: in /tmp
// somebody else may have made it.
func makeDir(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	err := os.Mkdir(path, dirMode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the state directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("look at the state directory: %w", &os.PathError{Op: "lstat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("state directory %s: it is not a directory that only user %d may write to: remove it, or set stateDir", path, os.Geteuid())
	}
	return nil
}

// Usable reports why no attachment could be made in the state directory.
func Usable(state string) error {
	if err := makeDir(state); err != nil {
		return err
	}
	if err := unix.Access(state, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("use the state directory: %w", &os.PathError{Op: "access", Path: state, Err: err})
	}
	return nil
}
