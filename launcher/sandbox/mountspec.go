// SPDX-License-Identifier: Apache-2.0

package sandbox

import "golang.org/x/sys/unix"

// A mountSpec is a mount's type, source and options, taken apart.
type mountSpec struct {
	fstype, source string
	attr           uint64   // MOUNT_ATTR_*
	data           []string // options of the file system itself
	bind           bool     // source is a path of the host
	deep           bool     // what is mounted below source comes along
	propagation    uint64   // MS_PRIVATE or MS_SLAVE, of what is bound; 0 as it is
	chown          bool     // give what is bound to the container's root
	fresh          bool     // what is bound may be new
	filled         bool     // with what is in its place
	volume         bool     // asked for by the user, who may have it through links
}

// Options of ours in a Mount, which no file system knows.
const (
	// OptVolume marks a mount that the user asked for: symbolic links on the way to
	// its destination are followed, inside of the container's root.
	OptVolume = "x-slipway.volume"
	// OptChown gives what is mounted to the root of the container, recursively.
	OptChown = "x-slipway.chown"
	// OptFresh gives a directory that is mounted, as long as it is empty, the owner and
	// the mode of the directory that it covers.
	OptFresh = "x-slipway.fresh"
	// OptFill gives a directory that OptFresh is for, or a tmpfs, what the image has in
	// its place besides.
	OptFill = "x-slipway.fill"
)

// parseMount takes the options of a spec's mount apart.
func parseMount(fstype, source string, options []string) mountSpec {
	m := mountSpec{fstype: fstype, source: source}
	for _, o := range options {
		if attr, ok := mountAttr(o); ok {
			m.attr |= attr
			continue
		}
		switch o {
		case "bind":
			m.bind = true
		case "rbind":
			m.bind, m.deep = true, true
		case "private", "rprivate":
			m.propagation = unix.MS_PRIVATE
		case "slave", "rslave":
			m.propagation = unix.MS_SLAVE
		case OptVolume:
			m.volume = true
		case OptChown:
			m.chown = true
		case OptFresh:
			m.fresh = true
		case OptFill:
			m.filled = true
		case "rw", "relatime", "suid", "dev", "exec": // what a mount is without a word
		default:
			m.data = append(m.data, o)
		}
	}
	return m
}

// mountAttr is what mount_setattr(2) calls the option.
func mountAttr(option string) (uint64, bool) {
	switch option {
	case "ro", "rro":
		return unix.MOUNT_ATTR_RDONLY, true
	case "nosuid":
		return unix.MOUNT_ATTR_NOSUID, true
	case "nodev":
		return unix.MOUNT_ATTR_NODEV, true
	case "noexec":
		return unix.MOUNT_ATTR_NOEXEC, true
	case "noatime":
		return unix.MOUNT_ATTR_NOATIME, true
	case "strictatime":
		return unix.MOUNT_ATTR_STRICTATIME, true
	}
	return 0, false
}

// legacyFlags is MOUNT_ATTR_* as mount(2) has them.
func legacyFlags(attr uint64) uintptr {
	var f uintptr
	for _, a := range []struct {
		attr uint64
		flag uintptr
	}{
		{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
		{unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
		{unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
		{unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
		{unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME},
		{unix.MOUNT_ATTR_STRICTATIME, unix.MS_STRICTATIME},
	} {
		if attr&a.attr != 0 {
			f |= a.flag
		}
	}
	return f
}
