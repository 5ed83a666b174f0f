// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"archive/tar"
	"encoding/binary"
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
	// fusePrefix begins the names of what fuse-overlayfs says of one.
	fusePrefix = "user.fuseoverlayfs."
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
		if !keeps(name) || h.Typeflag == tar.TypeSymlink {
			l.info.Xattrs++
			continue
		}
		list = append(list, attr{name, []byte(v)})
	}
	return list, nil
}

// keeps reports whether files have attributes of the name, which are none of overlayfs's
// or fuse-overlayfs's own.
func keeps(name string) bool {
	return name == capabilityXattr || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, OverlayPrefix) && !strings.HasPrefix(name, fusePrefix)
}

// setAttrs gives the open file the attributes. Those that the file system does not
// have are left out.
func setAttrs(fd int, list []attr) (left int64, err error) {
	for _, a := range list {
		err := unix.Fsetxattr(fd, a.name, a.value, 0)
		switch {
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM):
			left++
		case tooLong(fd, len(a.value), err):
			return left, fmt.Errorf("set extended attribute %s: its %d bytes are more than the file system takes (ext4: 4 KiB): use a directory on xfs or btrfs for --root", a.name, len(a.value))
		case err != nil:
			return left, fmt.Errorf("set extended attribute %s: %w", a.name, err)
		}
	}
	return left, nil
}

// longXattr is the size in bytes from which a value may be too long for a file system:
// those that take less are none to keep layers on.
const longXattr = 1 << 10

// tooLong reports whether an error of setting an attribute of size bytes means that it
// is too long. ext4 says then that the disk is full, which is asked for that reason.
func tooLong(fd, size int, err error) bool {
	if size < longXattr {
		return false
	}
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ERANGE) {
		return true
	}
	var st unix.Statfs_t
	return errors.Is(err, unix.ENOSPC) && unix.Fstatfs(fd, &st) == nil && int64(st.Bavail)*st.Bsize > maxXattrs
}

// File capabilities (struct vfs_ns_cap_data in include/uapi/linux/capability.h): a
// word with the revision, two pairs of sets, and from revision 3 on who root is.
const (
	capabilityXattr = "security.capability"
	capRevision2    = 0x02000000
	capRevision3    = 0x03000000
	capRevisionMask = 0xff000000
	capSize2        = 20
	capSize3        = 24
)

// rootedAt is the value of file capabilities such that they are good where root is
// uid. A value that is none is returned as it is, for the kernel to refuse.
func rootedAt(value []byte, uid uint32) []byte {
	if len(value) < capSize2 {
		return value
	}
	magic := binary.LittleEndian.Uint32(value)
	if r := magic & capRevisionMask; r != capRevision2 && r != capRevision3 {
		return value
	}
	v := make([]byte, capSize3)
	copy(v, value[:capSize2])
	binary.LittleEndian.PutUint32(v, magic&^capRevisionMask|capRevision3)
	binary.LittleEndian.PutUint32(v[capSize2:], uid)
	return v
}
