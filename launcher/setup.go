// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// basePoint is where the tmpfs with everything of the container is mounted until
// the root is changed: a directory that every host has and that is no layer of
// the container. What it covers is not looked at again.
const basePoint = "run"

// Names on that tmpfs.
const (
	baseRoot   = "root"   // the container's root
	baseEmpty  = "empty"  // shown in place of masked directories
	baseLayers = "layers" // the upper and work directories
)

// A step is one thing to do in the making of a container.
type step struct {
	name string // completes "could not …"
	run  func(*setup) error
}

// A setup is the state between the steps. Its descriptors are those of the host
// or of the new root and are closed by close.
type setup struct {
	o    *order
	mt   *mounter
	host int // the host's root
	base int // the tmpfs
	root int // the container's root, a mount of its own
}

// steps says in which order the container o describes is made, up to and
// including the change of root.
func steps(o *order) []step {
	all := []step{
		{"separate the mounts", (*setup).separate},
		{"make the root", (*setup).makeRoot},
	}
	for _, m := range o.Spec.Mounts {
		all = append(all, step{"mount " + m.Destination, func(s *setup) error { return s.mount(m) }})
	}
	for _, d := range o.Spec.Linux.Devices {
		all = append(all, step{"make " + d.Path, func(s *setup) error { return s.device(d) }})
	}
	all = append(all, step{"make the links in /dev", (*setup).links})
	for _, f := range o.Files {
		all = append(all, step{"make " + f.Path, func(s *setup) error {
			return place{s.root, f.Path}.create(f.Content, 0o644)
		}})
	}
	all = append(all,
		step{"set sysctls", (*setup).sysctls},
		step{"make paths read-only", (*setup).readonly},
		step{"mask paths", (*setup).mask},
		step{"change the root", (*setup).pivot},
	)
	return all
}

// newSetup opens what the steps start from.
func newSetup(o *order) (*setup, error) {
	s := &setup{o: o, mt: newMounter(o.Legacy), host: -1, base: -1, root: -1}
	var err error
	if s.host, err = unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open the host's root: %w", err)
	}
	return s, nil
}

// run runs the steps.
func (s *setup) run() error {
	for _, st := range steps(s.o) {
		if err := st.run(s); err != nil {
			return fmt.Errorf("could not %s: %w", st.name, err)
		}
	}
	return nil
}

func (s *setup) close() {
	for _, fd := range []*int{&s.host, &s.base, &s.root} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// separate makes sure that no mount of ours reaches the host.
func (s *setup) separate() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		// The namespace is there and its capabilities are not: what AppArmor does
		// on Ubuntu 23.10 and later.
		return fmt.Errorf("no capabilities in the user namespace: %w; to mend it: %s", err, userNSFix())
	}
	return err
}

// makeRoot mounts the tmpfs and makes the container's root of one directory of it.
func (s *setup) makeRoot() error {
	at := place{s.host, basePoint}
	m := parseMount("tmpfs", "slipway", []string{"nosuid", "nodev", "mode=755"})
	if err := s.mt.attach(at, m); err != nil {
		return err
	}
	var err error
	if s.base, err = at.open(unix.O_RDONLY | unix.O_DIRECTORY); err != nil {
		return err
	}
	for _, dir := range []string{baseRoot, baseEmpty, baseLayers} {
		if err := (place{s.base, dir}).mkdir(); err != nil {
			return err
		}
	}
	root := place{s.base, baseRoot}
	below, err := root.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(below)
	if err := s.mt.bind(below, root, 0, false); err != nil {
		return err
	}
	s.root, err = root.open(unix.O_RDONLY | unix.O_DIRECTORY)
	return err
}

// mount makes one mount of the spec.
func (s *setup) mount(m specs.Mount) error {
	ms := parseMount(m.Type, m.Source, m.Options)
	at := place{s.root, m.Destination}
	if m.Type == "overlay" {
		return s.layer(m, ms)
	}
	if err := at.mkdir(); err != nil {
		// /sys/fs/cgroup is not in every kernel's sysfs.
		if m.Type == "cgroup2" {
			return nil
		}
		return err
	}
	if ms.bind {
		return s.bindHost(m, ms)
	}
	err := s.mt.attach(at, ms)
	switch {
	case err == nil:
		return nil
	case m.Type == "cgroup2" || m.Type == "mqueue":
		// A host without the one, or a kernel without the other, has containers all the same.
		return nil
	case m.Type == "proc" && errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: this process's own /proc is partly hidden; run outside of the container, or with its /proc unmasked", err)
	}
	return err
}

// layer lays the host's root under the container's.
func (s *setup) layer(m specs.Mount, ms mountSpec) error {
	if m.Source != "/" || m.Destination != "/" {
		return fmt.Errorf("overlay of %s on %s: only / on / can be", m.Source, m.Destination)
	}
	split, err := mountParents()
	if err != nil {
		return err
	}
	l := layering{mt: s.mt, m: ms, base: place{s.base, baseLayers}, root: place{s.root, "/"}, skip: map[string]bool{}, split: split}
	for _, m := range s.o.Spec.Mounts {
		l.skip[path.Clean(m.Destination)] = true
	}
	for _, f := range s.o.Files {
		l.skip[path.Clean(f.Path)] = true
	}
	err = l.spread(s.host, "/")
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w: the kernel has no overlayfs; to mend it: sudo modprobe overlay", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: overlayfs in a user namespace needs Linux 5.11 or later", err)
	}
	return err
}

// bindHost binds a directory of the host.
func (s *setup) bindHost(m specs.Mount, ms mountSpec) error {
	fd, err := place{s.host, m.Source}.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return s.mt.bind(fd, place{s.root, m.Destination}, ms.attr, slices.Contains(m.Options, "rbind"))
}

// device binds a device node of the host, after a look at what it is.
func (s *setup) device(d specs.LinuxDevice) error {
	fd, err := place{s.host, d.Path}.open(unix.O_PATH | unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("look at the host's: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
		return fmt.Errorf("the host's is not the character device %d:%d", d.Major, d.Minor)
	}
	at := place{s.root, d.Path}
	if err := at.create("", fileModeDev); err != nil {
		return err
	}
	return s.mt.bind(fd, at, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, false)
}

// links makes the symbolic links that programs expect in /dev (the runtime-spec,
// config-linux.md, "Dev symbolic links").
func (s *setup) links() error {
	for _, l := range [][2]string{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},
	} {
		if err := (place{s.root, "dev"}).join(l[0]).symlink(l[1]); err != nil {
			return err
		}
	}
	return nil
}

// sysctls writes them through the container's own procfs.
func (s *setup) sysctls() error {
	for k, v := range s.o.Spec.Linux.Sysctl {
		fd, err := place{s.root, "proc/sys/" + strings.ReplaceAll(k, ".", "/")}.open(unix.O_WRONLY)
		if errors.Is(err, unix.ENOENT) {
			continue // a kernel without it
		}
		if err != nil {
			return err
		}
		var fs unix.Statfs_t
		if err = unix.Fstatfs(fd, &fs); err == nil && fs.Type != unix.PROC_SUPER_MAGIC {
			err = errors.New("not in a procfs")
		}
		if err == nil {
			_, err = unix.Write(fd, []byte(v))
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	return nil
}

// readonly makes trees read-only by a mount on themselves.
func (s *setup) readonly() error {
	for _, p := range s.o.Spec.Linux.ReadonlyPaths {
		at := place{s.root, p}
		fd, err := at.open(unix.O_PATH)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = s.mt.bind(fd, at, unix.MOUNT_ATTR_RDONLY, true)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// mask covers files with the host's /dev/null and directories with an empty one.
func (s *setup) mask() error {
	null, err := place{s.root, "dev/null"}.open(unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	empty, err := place{s.base, baseEmpty}.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(empty)
	for _, p := range s.o.Spec.Linux.MaskedPaths {
		if err := s.maskOne(place{s.root, p}, null, empty); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func (s *setup) maskOne(at place, null, empty int) error {
	fd, err := at.open(unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return s.mt.bind(empty, at, unix.MOUNT_ATTR_RDONLY, false)
	}
	return s.mt.bind(null, at, 0, false)
}

// pivot makes the container's root the process's, and lets the host's go.
func (s *setup) pivot() error {
	if err := unix.Fchdir(s.root); err != nil {
		return fmt.Errorf("enter it: %w", err)
	}
	// The old root is stacked upon the new one, and unmounted from there
	// (pivot_root(2), "pivot_root(".", ".")").
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the host's root: %w", err)
	}
	return unix.Chdir("/")
}
