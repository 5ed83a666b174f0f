// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"

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
	baseFiles  = "files"  // files that are bound over the container's
)

// A step is one thing to do in the making of a container.
type step struct {
	name string // completes "could not …"
	run  func(*setup) error
}

// A setup is the state between the steps. Its descriptors are those of the host
// or of the new root and are closed by close.
type setup struct {
	o       *Order
	ctl     *Control
	mt      *mounter
	marks   map[string]mark // of volumes that may have to be filled, by path
	sources map[string]int  // what of the host the container has, by path
	host    int             // the host's root
	null    int             // the host's null device
	base    int             // the tmpfs
	root    int             // the container's root, a mount of its own
	layers  int             // number of throw-away layers on the tmpfs
}

// steps says in which order the container o describes is made, up to and
// including the change of root.
func steps(o *Order) []step {
	all := []step{
		{"separate the mounts", (*setup).separate},
		{"make the root", (*setup).makeRoot},
	}
	for _, m := range o.Mounts {
		all = append(all, step{"mount " + m.Destination, func(s *setup) error { return s.mount(m) }})
		if m.Destination == procDir {
			// Before a volume can be anywhere near it (CVE-2025-52881).
			all = append(all, step{"set sysctls", (*setup).sysctls}, step{"set the OOM score", (*setup).oomScore})
		}
		if m.Destination == devDir {
			all = append(all, deviceSteps()...)
		}
	}
	for i, f := range o.Files {
		all = append(all, step{"make " + f.Path, func(s *setup) error { return s.file(i, f) }})
	}
	return append(all,
		step{"make paths read-only", (*setup).readonly},
		step{"mask paths", (*setup).mask},
		step{"make the root read-only", (*setup).readonlyRoot},
		step{"change the root", (*setup).pivot},
	)
}

// deviceSteps fill the new /dev, before a volume can be below it.
func deviceSteps() []step {
	return []step{{"make the devices", (*setup).devices}, {"make the links in /dev", (*setup).links}}
}

// newSetup opens what the steps start from. It does so as the caller, with the
// caller's rights to what is on its host, which the container's root need not have.
func newSetup(o *Order, ctl *Control) (*setup, error) {
	s := &setup{o: o, ctl: ctl, mt: newMounter(o.Legacy), sources: make(map[string]int), marks: make(map[string]mark), host: -1, null: -1, base: -1, root: -1}
	var err error
	if s.host, err = unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open the host's root: %w", err)
	}
	if err := s.openSources(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// openSources opens every path of the host that the order names.
func (s *setup) openSources() error {
	r := &s.o.Root
	for _, p := range append(append([]string{r.Dir, r.Upper, r.Work}, r.Lowers...), r.Data...) {
		if p == "" {
			continue
		}
		if err := s.openSource(p, unix.O_RDONLY|unix.O_DIRECTORY); err != nil {
			return fmt.Errorf("open the root's %w", err)
		}
	}
	if r.Fuse {
		if err := s.openSource(fuseDevice, unix.O_RDWR); err != nil {
			return fmt.Errorf("open the device %w", err)
		}
	}
	for _, m := range s.o.Mounts {
		ms := parseMount(m.Type, m.Source, m.Options)
		if !ms.bind && m.Type != fsOverlay {
			continue
		}
		flags := unix.O_PATH
		if m.Type == fsOverlay {
			flags = unix.O_RDONLY | unix.O_DIRECTORY
		}
		if err := s.openSource(m.Source, flags); err != nil {
			return fmt.Errorf("open the volume %w", err)
		}
		if _, ok := s.marks[m.Source]; !ok && ms.bind && ms.fresh && ms.filled {
			s.marks[m.Source] = openMark(m.Source)
		}
	}
	for _, d := range s.o.Devices {
		if err := s.openSource(d.Path, unix.O_PATH|unix.O_NOFOLLOW); err != nil {
			return fmt.Errorf("open the device %w", err)
		}
	}
	return s.openNull()
}

func (s *setup) openSource(name string, flags int) error {
	if _, ok := s.sources[name]; ok {
		return nil
	}
	fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.sources[name] = fd
	return nil
}

// openNull opens the host's null device, which covers what is masked, and looks
// whether it is one (CVE-2025-31133).
func (s *setup) openNull() error {
	var err error
	if s.null, err = unix.Open("/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the host's null device: %w", err)
	}
	return checkDevice(s.null, false, majorMem, minorNull)
}

// run runs the steps.
func (s *setup) run() error {
	for _, st := range steps(s.o) {
		if err := st.run(s); err != nil {
			return fmt.Errorf("could not %s: %w%s", st.name, err, s.foreign(err))
		}
	}
	return nil
}

// foreign adds to an error what mends it where the root's files belong to ids that the
// container does not have, so that its root may not write among them.
func (s *setup) foreign(err error) string {
	if s.o.Root.isHost() || !errors.Is(err, unix.EOVERFLOW) && !errors.Is(err, unix.EACCES) {
		return ""
	}
	return "; the root directory's files may belong to users whom the container does not have: chown them, or choose another --userns"
}

func (s *setup) close() {
	for _, fd := range []*int{&s.host, &s.null, &s.base, &s.root} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
	for _, fd := range s.sources {
		unix.Close(fd)
	}
	for _, m := range s.marks {
		if m >= 0 {
			unix.Close(int(m))
		}
	}
	s.sources, s.marks = nil, nil
}

// separate makes sure that no mount of ours reaches the host. What the host mounts
// later reaches us only where a volume asks for it.
func (s *setup) separate() error {
	flags := uintptr(unix.MS_REC | unix.MS_PRIVATE)
	for _, m := range s.o.Mounts {
		if parseMount(m.Type, m.Source, m.Options).propagation == unix.MS_SLAVE {
			flags = unix.MS_REC | unix.MS_SLAVE
		}
	}
	err := unix.Mount("", "/", "", flags, "")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		// The namespace is there and its capabilities are not: what AppArmor does
		// on Ubuntu 23.10 and later.
		return fmt.Errorf("no capabilities in the user namespace: %w; to mend it: %s", err, UserNSFix())
	}
	return err
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
