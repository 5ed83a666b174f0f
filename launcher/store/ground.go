// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"path/filepath"
)

// maxGround is the number of an image's layers above which there is no room for the
// ground layer: overlayfs takes 500 (OVL_MAX_STACK in fs/overlayfs/params.c).
const maxGround = 499

// groundDirs and groundFiles are what is mounted upon in every container.
var (
	groundDirs  = [...]string{"dev", "etc", "proc", "sys"}
	groundFiles = [...]string{"etc/hostname", "etc/hosts", "etc/resolv.conf"}
)

// ground returns the layer that lies below all others of an image: empty files and
// directories at which every container has something mounted. What of them an image
// lacks need not be made in each container's own layer then, nor removed from there,
// which takes a file system a millisecond. Empty is none: that costs this time alone.
func (s *Store) ground() string {
	dir := s.path(groundDir)
	if _, err := os.Lstat(filepath.Join(dir, groundFiles[0])); err == nil {
		return dir
	}
	tmp, err := os.MkdirTemp(s.path(tmpDir), "")
	if err != nil {
		return ""
	}
	// Taken away where it was not put in its place, or by GC.
	defer os.RemoveAll(tmp)
	if fillGround(tmp) != nil {
		return ""
	}
	// Another may just have done the same.
	if err := renameNew(tmp, dir); err != nil && !os.IsExist(err) {
		return ""
	}
	return dir
}

// fillGround makes what is in the layer, whatever the umask is.
func fillGround(dir string) error {
	for _, d := range groundDirs {
		p := filepath.Join(dir, d)
		if err := os.Mkdir(p, 0o755); err != nil {
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
	return os.Chmod(dir, 0o755)
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
