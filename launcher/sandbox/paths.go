// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// in is the place path below the directory root, to which no link may lead.
func in(root int, path string) place { return place{root: root, path: path} }

// file gives the container a file. Where its root has a regular file there, ours is
// mounted upon it, which writes nothing to a layer or a directory of the host; where it
// has nothing an empty file is made first, and where it has a link that leads nowhere,
// in place of that.
func (s *setup) file(i int, f File) error {
	at := in(s.root, f.Path)
	if s.o.Root.isHost() {
		return at.create(f.Content, 0o644)
	}
	flags := unix.O_PATH
	if f.Entry {
		flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	}
	target, err := s.filePlace(&at, flags)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	content := f.Content
	if f.Entry {
		if content, err = withEntry(target, content); err != nil || content == "" {
			return err
		}
	}
	// On the tmpfs, where nobody but us has made anything.
	own, err := unix.Openat(s.base, path.Join(baseFiles, strconv.Itoa(i)), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	defer unix.Close(own)
	if err := writeAll(own, content); err != nil {
		return err
	}
	return s.mt.bindOn(own, target, at, mountSpec{})
}

// filePlace opens the regular file at a place, which it makes if it is missing. What is
// mounted upon is what was looked at.
func (s *setup) filePlace(at *place, flags int) (int, error) {
	err := at.touch()
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ELOOP) {
		at.links = true
		fd, err := at.openFile(flags)
		if err == nil || s.o.Root.Dir != "" {
			return fd, err
		}
		at.links = false
		if err := at.create("", 0o644); err != nil {
			return -1, err
		}
	} else if err != nil {
		return -1, err
	}
	return at.openFile(flags)
}

// withEntry is what an open file of users or groups holds and one line more, or nothing if
// it has the line's id.
func withEntry(file int, line string) (string, error) {
	f, err := unix.FcntlInt(uintptr(file), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	r := os.NewFile(uintptr(f), "")
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxPasswd+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxPasswd {
		return "", fmt.Errorf("it is longer than %d bytes", maxPasswd)
	}
	old := string(b)
	for l := range strings.Lines(old) {
		if idOf(l) == idOf(line) {
			return "", nil
		}
	}
	if old != "" && !strings.HasSuffix(old, "\n") {
		old += "\n"
	}
	return old + line, nil
}

// idOf is the third field of a line of passwd(5) or group(5); empty without one.
func idOf(line string) string {
	f := strings.SplitN(line, ":", 4)
	if len(f) < 4 {
		return ""
	}
	return f[2]
}

// sysctls writes them through the container's own procfs.
func (s *setup) sysctls() error {
	for _, c := range s.o.Sysctls {
		if err := s.writeProc("sys/"+strings.ReplaceAll(c.Name, ".", "/"), c.Value); err != nil {
			if errors.Is(err, unix.ENOENT) && c.Value == PingGroups {
				continue // a kernel without IPv4
			}
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

// PingGroups is the value of net.ipv4.ping_group_range that lets the container's root
// have ICMP sockets.
const PingGroups = "0 0"

// oomScore says how soon the kernel kills the container when memory runs out.
func (s *setup) oomScore() error {
	if s.o.Process.OOMScoreAdj == 0 {
		return nil
	}
	return s.writeProc("self/oom_score_adj", strconv.Itoa(int(s.o.Process.OOMScoreAdj)))
}

// writeProc writes to a file of the container's procfs.
func (s *setup) writeProc(name, value string) error {
	return writeProcBelow(s.root, name, value, name == "self/oom_score_adj")
}

// writeProcBelow writes to a file of the procfs below a root, which must be one: neither a
// link, unless links may be on the way, nor a mount may have led elsewhere (CVE-2025-52881).
func writeProcBelow(root int, name, value string, links bool) error {
	fd, err := place{root: root, path: path.Join(procDir, name), links: links}.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("not in a procfs")
	}
	_, err = unix.Write(fd, []byte(value))
	return err
}

// readonly makes trees read-only by a mount on themselves.
func (s *setup) readonly() error {
	for _, p := range s.o.Readonly {
		at := in(s.root, p)
		fd, err := at.open(unix.O_PATH)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		err = s.mt.bindOn(fd, fd, at, mountSpec{attr: unix.MOUNT_ATTR_RDONLY, deep: true})
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// mask covers files with the host's null device and directories with an empty one.
func (s *setup) mask() error {
	empty, err := in(s.base, baseEmpty).open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(empty)
	for _, p := range s.o.Masked {
		if err := s.maskOne(in(s.root, p), empty); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func (s *setup) maskOne(at place, empty int) error {
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
		return s.mt.bindOn(empty, fd, at, mountSpec{attr: unix.MOUNT_ATTR_RDONLY})
	}
	return s.mt.bindOn(s.null, fd, at, mountSpec{})
}
