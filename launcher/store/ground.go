// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"path/filepath"
)

// maxGround is the number of an image's layers above which there is no room for the
// ground layer: overlayfs takes 500 (OVL_MAX_STACK in fs/overlayfs/params.c).
const maxGround = 499

// groundDirs and groundFiles are what is mounted upon in every container, in the order in
// which it is made.
var (
	groundDirs  = [...]string{"", "dev", "etc", "proc", "sys"}
	groundFiles = [...]string{"etc/hostname", "etc/hosts", "etc/resolv.conf"}
)

// ground returns the layer that lies below all others of an image: empty files and
// directories at which every container has something mounted. What of them an image
// lacks need not be made in each container's own layer then, nor removed from there,
// which takes a file system a millisecond. Empty is none: that costs this time alone.
func (s *Store) ground() string {
	dir := s.path(groundDir)
	last := filepath.Join(dir, groundFiles[len(groundFiles)-1])
	if _, err := os.Lstat(last); err != nil && fillGround(dir) != nil {
		return ""
	}
	return dir
}

// fillGround makes what of the layer is missing, whatever the umask is. Others may be
// doing the same.
func fillGround(dir string) error {
	for _, d := range groundDirs {
		p := filepath.Join(dir, d)
		if err := os.Mkdir(p, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
		if err := os.Chmod(p, 0o755); err != nil {
			return err
		}
	}
	for _, f := range groundFiles {
		p := filepath.Join(dir, f)
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(p, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withGround adds the ground layer to the lower layers of a container with the store's own
// mapping, under which what the caller makes is its root's.
func (s *Store) withGround(layers []string) []string {
	uid, _ := s.Mapping.HostUID(0)
	gid, _ := s.Mapping.HostGID(0)
	if len(layers) > maxGround || int(uid) != os.Geteuid() || int(gid) != os.Getegid() {
		return layers
	}
	if g := s.ground(); g != "" {
		return append(layers, g)
	}
	return layers
}
