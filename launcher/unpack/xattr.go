// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// paxXattr begins the key of an extended attribute in an archive (star's format,
// which Docker and the OCI image specification took over).
const paxXattr = "SCHILY.xattr."

// What overlayfs says of a file (Documentation/filesystems/overlayfs.rst), in the
// namespace of attributes that a user namespace may write.
const (
	// OverlayPrefix begins the names of all of these.
	OverlayPrefix = "user.overlay."
	// OpaqueXattr with the value "y" hides a directory of the layers below.
	OpaqueXattr = OverlayPrefix + "opaque"
)

// An attr is an extended attribute.
type attr struct {
	name  string
	value []byte
}

// attrs returns the extended attributes of an entry that the file is to have, and
// counts those that are left out. Left out is what overlayfs would take as its own,
// since an image could lead the kernel to other files by it, and what no user
// namespace may set.
func (l *layer) attrs(h *tar.Header) ([]attr, error) {
	var list []attr
	size := 0
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok {
			continue
		}
		size += len(name) + len(v)
		if size > maxXattrs {
			return nil, fmt.Errorf("more than %d bytes of extended attributes", maxXattrs)
		}
		wanted := name == "security.capability" || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, OverlayPrefix)
		if !wanted || h.Typeflag == tar.TypeSymlink {
			l.info.Xattrs++
			continue
		}
		list = append(list, attr{name, []byte(v)})
	}
	return list, nil
}

// setAttrs gives the open file the attributes. Those that the file system does not
// have are left out.
func setAttrs(fd int, list []attr) (left int64, err error) {
	for _, a := range list {
		err := unix.Fsetxattr(fd, a.name, a.value, 0)
		switch {
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM):
			left++
		case err != nil:
			return left, fmt.Errorf("set extended attribute %s: %w", a.name, err)
		}
	}
	return left, nil
}
