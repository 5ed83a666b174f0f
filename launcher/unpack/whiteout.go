// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Names that say what a layer removes (OCI image specification, layer.md,
// "Whiteouts"). What else begins with metaPrefix is aufs' own business.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = whiteoutPrefix + whiteoutPrefix
	opaqueName     = metaPrefix + ".opq"
)

// whiteout makes of the entry name in the directory at what overlayfs
// has for it: for a removed file a character device 0:0, for a directory that shows
// nothing of the lower layers an attribute. It concerns lower layers alone: what this
// one puts at the same place stays, whichever comes first in the archive.
func (l *layer) whiteout(at int, name string) error {
	switch {
	case name == opaqueName:
		fd, err := openNoFollow(at, ".")
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return setOpaque(fd)
	case strings.HasPrefix(name, metaPrefix):
		return nil
	}
	name = name[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return errors.New("a whiteout of no file")
	}
	st, err := lookup(at, name)
	switch {
	case err != nil:
		return err
	case st == nil:
		if err := unix.Mknodat(at, name, unix.S_IFCHR, int(unix.Mkdev(0, 0))); err != nil {
			return fmt.Errorf("make a whiteout: %w", err)
		}
		return nil
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		fd, err := openNoFollow(at, name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return setOpaque(fd)
	}
	return nil
}

// setOpaque hides what lower layers have in the directory.
func setOpaque(fd int) error {
	if err := unix.Fsetxattr(fd, OpaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("make the directory opaque: %w", err)
	}
	return nil
}
