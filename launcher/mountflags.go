// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// volumeValue is the value of -v.
type volumeValue struct {
	mounts  *[]Mount
	volumes string
}

// Set takes SOURCE:DESTINATION[:OPTIONS].
func (v *volumeValue) Set(s string) error {
	f := strings.Split(s, ":")
	if len(f) < 2 || len(f) > 3 {
		return errors.New("want SOURCE:DIR or SOURCE:DIR:OPTIONS")
	}
	m := Mount{Kind: MountBind, Source: f[0], Destination: f[1], Fresh: isName(f[0]), Fill: isName(f[0])}
	if len(f) == 3 {
		for o := range strings.SplitSeq(f[2], ",") {
			if err := m.option(o); err != nil {
				return err
			}
		}
	}
	var err error
	if m.Source, err = source(m.Source, v.volumes); err != nil {
		return err
	}
	*v.mounts = append(*v.mounts, m)
	return nil
}

// Type names the value's kind to pflag.
func (*volumeValue) Type() string { return "volume" }

// String is empty: there is no default to show.
func (*volumeValue) String() string { return "" }

// option is one of a volume, as Podman has them.
func (m *Mount) option(o string) error {
	switch o {
	case "ro", "rro", "readonly":
		m.ReadOnly = true
	case "O":
		m.Kind = MountOverlay
	case "U", "chown":
		m.Chown = true
	case "bind":
		m.Shallow = true
	case "rslave", "slave":
		m.Slave = true
	case "noexec", "noatime":
		m.Options = append(m.Options, o)
	case "", "rw", "rbind", "rprivate", "private", "nosuid", "nodev", "copy": // so it is
	case "nocopy", "volume-nocopy":
		m.Fill = false
	case "z", "Z": // labels, on a machine with SELinux
	case "shared", "rshared":
		return errors.New("shared: mounts in the container cannot reach the host without root")
	default:
		return fmt.Errorf("option %q: want ro, O, U, bind, rslave or noexec", o)
	}
	return nil
}

// isName reports whether a volume's source is a name, and not a path.
func isName(s string) bool { return !strings.Contains(s, "/") && s != "." && s != ".." }

// source is the absolute path of a volume's source, which is made where it is a name.
func source(s, volumes string) (string, error) {
	if !isName(s) {
		if rest, ok := strings.CutPrefix(s, "~/"); ok {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", err
			}
			s = filepath.Join(home, rest)
		}
		return filepath.Abs(s)
	}
	if validVolume(s) && !filepath.IsAbs(volumes) {
		return "", fmt.Errorf("volume %q: there is no directory for volumes with a name: set HOME or XDG_DATA_HOME", s)
	}
	return MakeVolume(volumes, s)
}

// VolumePath returns the directory of the files of the volume with a name, in the directory
// of volumes, whether it is there or not. An error says that no volume can have that name.
func VolumePath(volumes, name string) (string, error) {
	if !validVolume(name) {
		return "", fmt.Errorf("volume %q: want a path with a slash, or a name of letters, digits, dots, hyphens and underscores", name)
	}
	return filepath.Join(volumes, name, volumeData), nil
}

// MakeVolume returns what VolumePath does, and makes the volume if there is none.
func MakeVolume(volumes, name string) (string, error) {
	dir, err := VolumePath(volumes, name)
	if err != nil {
		return "", err
	}
	// The container's root is to own it, which mostly is the caller.
	if err := os.MkdirAll(dir, volumeMode); err != nil {
		return "", fmt.Errorf("make the volume %s: %w", name, err)
	}
	return dir, nil
}

// volumeData is the name of a volume's files in its directory, beside which there is
// room for what is to be known of it.
const volumeData = "_data"

// volumeMode is the mode of a new volume: its directory above is the caller's alone.
const volumeMode = 0o755

// maxVolumeName bounds the length of a volume's name in bytes.
const maxVolumeName = 64

func validVolume(s string) bool {
	if s == "" || len(s) > maxVolumeName || s[0] == '.' || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// mountValue is the value of --mount.
type mountValue volumeValue

// Set takes KEY=VALUE words with commas between them.
func (v *mountValue) Set(s string) error {
	m := Mount{Kind: MountBind, Fill: true}
	kind := "volume"
	for word := range strings.SplitSeq(s, ",") {
		key, value, has := strings.Cut(word, "=")
		var err error
		switch key {
		case "type":
			kind = value
		case "src", "source":
			m.Source = value
		case "dst", "destination", "target":
			m.Destination = value
		case "ro", "readonly":
			m.ReadOnly = !has || value == "true" || value == "1"
		case "tmpfs-size":
			m.Options = append(m.Options, "size="+value)
		case "tmpfs-mode":
			m.Options = append(m.Options, "mode="+value)
		case "bind-propagation":
			err = m.option(value)
		case "bind-nonrecursive":
			m.Shallow = !has || value == "true"
		default:
			err = m.option(word)
		}
		if err != nil {
			return err
		}
	}
	return v.add(m, kind)
}

func (v *mountValue) add(m Mount, kind string) error {
	var err error
	switch {
	case kind == "tmpfs":
		m.Kind, m.Fill = MountTmpfs, false
	case kind != "bind" && kind != "volume":
		return fmt.Errorf("type %q: want bind, volume or tmpfs", kind)
	case m.Source == "":
		return fmt.Errorf("a mount of type %s needs src=", kind)
	case kind == "bind":
		m.Fill = false
		m.Source, err = filepath.Abs(m.Source)
	default:
		m.Fresh = isName(m.Source)
		m.Fill = m.Fill && m.Fresh
		m.Source, err = source(m.Source, v.volumes)
	}
	if err != nil {
		return err
	}
	*v.mounts = append(*v.mounts, m)
	return nil
}

// Type names the value's kind to pflag.
func (*mountValue) Type() string { return "mount" }

// String is empty: there is no default to show.
func (*mountValue) String() string { return "" }

// tmpfsValue is the value of --tmpfs.
type tmpfsValue struct{ mounts *[]Mount }

// Set takes DIR[:OPTIONS].
func (v *tmpfsValue) Set(s string) error {
	dir, options, _ := strings.Cut(s, ":")
	m := Mount{Kind: MountTmpfs, Destination: dir}
	for o := range strings.SplitSeq(options, ",") {
		key, _, _ := strings.Cut(o, "=")
		switch {
		case slices.Contains([]string{"size", "mode", "nr_inodes", "nr_blocks", "uid", "gid", "huge"}, key), o == "noexec", o == "noatime":
			m.Options = append(m.Options, o)
		case o == "ro":
			m.ReadOnly = true
		case o == "tmpcopyup":
			m.Fill = true
		case slices.Contains([]string{"", "rw", "nosuid", "nodev", "exec", "suid", "dev", "notmpcopyup"}, o):
		default:
			return fmt.Errorf("option %q: want one of tmpfs(5), such as size=64m", o)
		}
	}
	*v.mounts = append(*v.mounts, m)
	return nil
}

// Type names the value's kind to pflag.
func (*tmpfsValue) Type() string { return "tmpfs" }

// String is empty: there is no default to show.
func (*tmpfsValue) String() string { return "" }

// deviceValue is the value of --device.
type deviceValue struct{ devices *[]Device }

// Set takes PATH[:PATH][:PERMISSIONS].
func (v *deviceValue) Set(s string) error {
	f := strings.Split(s, ":")
	d := Device{Source: f[0], Destination: f[0]}
	if n := len(f); n > 1 && !strings.HasPrefix(f[n-1], "/") {
		if strings.Trim(f[n-1], "rwm") != "" {
			return fmt.Errorf("permissions %q: want r, rw or rwm", f[n-1])
		}
		d.ReadOnly = !strings.Contains(f[n-1], "w")
		f = f[:n-1]
	}
	switch len(f) {
	case 1:
	case 2:
		d.Destination = f[1]
	default:
		return errors.New("want PATH, PATH:PATH or PATH:PATH:rwm")
	}
	*v.devices = append(*v.devices, d)
	return nil
}

// Type names the value's kind to pflag.
func (*deviceValue) Type() string { return "device" }

// String is empty: there is no default to show.
func (*deviceValue) String() string { return "" }

// securityValue is the value of --security-opt.
type securityValue struct{ c *Config }

// Set takes one option.
func (v *securityValue) Set(s string) error {
	key, value, has := strings.Cut(s, "=")
	if !has {
		key, value, _ = strings.Cut(s, ":") // Docker's older form
	}
	switch key {
	case "no-new-privileges":
		v.c.NewPrivs = value == "false"
	case "seccomp":
		if value != SeccompUnconfined && value != "" {
			var err error
			if value, err = filepath.Abs(value); err != nil {
				return err
			}
		}
		v.c.Seccomp = value
	case "mask":
		v.c.Mask = append(v.c.Mask, strings.Split(value, ":")...)
	case "unmask":
		v.c.Unmask = append(v.c.Unmask, strings.Split(value, ":")...)
	case "label": // of SELinux, which slipway leaves as it is
	case "apparmor":
		if value != "unconfined" {
			return errors.New("AppArmor profiles are not applied; apparmor=unconfined is what there is")
		}
	default:
		return fmt.Errorf("option %q: want no-new-privileges, seccomp, mask or unmask", key)
	}
	return nil
}

// Type names the value's kind to pflag.
func (*securityValue) Type() string { return "option" }

// String is empty: there is no default to show.
func (*securityValue) String() string { return "" }
