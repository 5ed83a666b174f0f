// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// A MountKind says what a Mount shows.
type MountKind string

// The kinds of mounts.
const (
	MountBind    MountKind = "bind"    // a file or directory of the host
	MountTmpfs   MountKind = "tmpfs"   // an empty directory in memory
	MountOverlay MountKind = "overlay" // a directory of the host under a layer that is thrown away
)

// A Mount is a volume or another file system that the caller asks for.
type Mount struct {
	Kind MountKind
	// Source is an absolute path of the host; a tmpfs has none.
	Source string
	// Destination is an absolute path in the container. Symbolic links on the way
	// are followed as the container's processes would; what is not there is made.
	Destination string
	ReadOnly    bool
	// Shallow leaves out what is mounted below Source. Where the caller itself could
	// not unmount it, the kernel refuses that.
	Shallow bool
	// Slave lets mounts that the host makes later below Source appear.
	Slave bool
	// Chown gives everything in Source to the root of the container.
	Chown bool
	// Fresh says that Source is a directory of a volume that nobody else made: as long as
	// it is empty, it gets owner and mode of what the image has at Destination.
	Fresh bool
	// Fill says that it gets the files of the image's besides, and so can a tmpfs. The
	// host's own root is no image.
	Fill bool
	// Options are those of tmpfs(5), such as size=64m, and noexec for any kind.
	Options []string
}

// checkMounts says what of the mounts cannot be.
func (c *Config) checkMounts() error {
	seen := map[string]bool{}
	for _, m := range c.Mounts {
		if err := m.check(); err != nil {
			return err
		}
		at := path.Clean(m.Destination)
		if seen[at] {
			return fmt.Errorf("%w: volume: two at %s", ErrUsage, at)
		}
		seen[at] = true
	}
	for _, d := range c.Devices {
		if err := d.check(); err != nil {
			return err
		}
	}
	return nil
}

func (m Mount) check() error {
	switch {
	case !path.IsAbs(m.Destination) || strings.ContainsRune(m.Destination, 0):
		return fmt.Errorf("%w: volume: destination %q: want an absolute path", ErrUsage, m.Destination)
	case path.Clean(m.Destination) == "/":
		return fmt.Errorf("%w: volume: it cannot be the root; use --rootfs for that", ErrUsage)
	case m.Kind == MountTmpfs && m.Source != "":
		return fmt.Errorf("%w: tmpfs at %s: it has no source", ErrUsage, m.Destination)
	case m.Kind != MountTmpfs && (!filepath.IsAbs(m.Source) || strings.ContainsRune(m.Source, 0)):
		return fmt.Errorf("%w: volume: source %q: want an absolute path", ErrUsage, m.Source)
	case m.Kind != MountBind && m.Kind != MountTmpfs && m.Kind != MountOverlay:
		return fmt.Errorf("%w: mount at %s: type %q: want bind, tmpfs or volume", ErrUsage, m.Destination, m.Kind)
	}
	// The kernel's own file systems are made by us, and nothing may stand in for them
	// or cover what is masked (CVE-2019-16884, CVE-2023-28642).
	if at := path.Clean(m.Destination); below(at, "/proc") || below(at, "/sys") && !below(at, "/sys/fs/cgroup") || at == "/dev" {
		return fmt.Errorf("%w: volume: %s cannot be replaced", ErrUsage, at)
	}
	return m.checkSource()
}

func (m Mount) checkSource() error {
	if m.Kind == MountTmpfs {
		return nil
	}
	st, err := os.Stat(m.Source)
	if err != nil {
		return fmt.Errorf("volume %s: %w; to mend it: mkdir -p %s", m.Source, err, m.Source)
	}
	if m.Kind == MountOverlay && !st.IsDir() {
		return fmt.Errorf("%w: volume %s: only a directory can have a layer over it", ErrUsage, m.Source)
	}
	return nil
}

func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// spec is m as a runtime-spec has it.
func (m Mount) spec() specs.Mount {
	options := []string{"nosuid", "nodev"}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	s := specs.Mount{Destination: m.Destination, Source: m.Source, Type: string(m.Kind)}
	switch m.Kind {
	case MountTmpfs:
		s.Source = "tmpfs"
		if !slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "mode=") }) {
			options = append(options, "mode=1777")
		}
	case MountBind:
		s.Type = "bind"
		options = append(options, propagation(m)...)
	}
	if m.Chown {
		options = append(options, sandbox.OptChown)
	}
	if m.Fresh {
		options = append(options, sandbox.OptFresh)
	}
	if m.Fill {
		options = append(options, sandbox.OptFill)
	}
	s.Options = append(append(options, m.Options...), sandbox.OptVolume)
	return s
}

func propagation(m Mount) []string {
	switch {
	case m.Shallow && m.Slave:
		return []string{"bind", "slave"}
	case m.Shallow:
		return []string{"bind", "private"}
	case m.Slave:
		return []string{"rbind", "rslave"}
	}
	return []string{"rbind", "rprivate"}
}

// volumeMounts are the caller's mounts, a directory before those below it.
func volumeMounts(c *Config) []specs.Mount {
	sorted := slices.Clone(c.Mounts)
	slices.SortStableFunc(sorted, func(a, b Mount) int {
		return cmp.Compare(strings.Count(path.Clean(a.Destination), "/"), strings.Count(path.Clean(b.Destination), "/"))
	})
	var all []specs.Mount
	for _, d := range c.Devices {
		all = append(all, d.spec())
	}
	for _, m := range sorted {
		all = append(all, m.spec())
	}
	return all
}
