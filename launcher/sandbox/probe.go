// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// probeMain is the init stage that finds out whether overlayfs works in a user
// namespace. It says what does not on standard output.
func probeMain() int {
	if err := probeOverlay(); err != nil {
		fmt.Fprint(os.Stdout, err)
		return 1
	}
	return 0
}

// probeOverlay makes an overlay on a tmpfs and removes a directory of its lower
// layer: without working userxattr the mount succeeds and the removal fails.
func probeOverlay() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separate the mounts: %w", err)
	}
	host, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the host's root: %w", err)
	}
	mt, at := newMounter(false), in(host, basePoint)
	if err := mt.attach(at, parseMount("tmpfs", "slipway", []string{"mode=755"})); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, dir := range []string{"lower/dir/below", "upper", "work", "merged"} {
		if err := at.join(dir).mkdir(); err != nil {
			return err
		}
	}
	var fds [3]int
	for i, dir := range []string{"lower", "upper", "work"} {
		if fds[i], err = at.join(dir).open(unix.O_RDONLY | unix.O_DIRECTORY); err != nil {
			return err
		}
	}
	l := layerSet{lowers: fds[:1], upper: fds[1], work: fds[2], options: []string{userXattr}}
	if err := mt.overlay(at.join("merged"), l); err != nil {
		return fmt.Errorf("mount an overlay: %w", err)
	}
	for _, dir := range []string{"dir/below", "dir"} {
		merged, err := at.join("merged").open(unix.O_RDONLY | unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		if err := unix.Unlinkat(merged, dir, unix.AT_REMOVEDIR); err != nil {
			return fmt.Errorf("remove a directory of the lower layer: %w", err)
		}
	}
	return nil
}
