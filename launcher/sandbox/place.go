// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// insideOnly makes openat2(2) stay below the directory it starts from and take
// no symbolic link on the way: whoever filled that directory cannot lead us out.
const insideOnly = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// insideLinks is insideOnly with symbolic links, which are resolved as a process of
// the container would see them.
const insideLinks = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// dirMode is the mode of directories that the launcher makes.
const dirMode = 0o755

// A place is a path below an open directory, looked up anew each time it is
// opened.
type place struct {
	root  int    // a directory
	path  string // below root; a leading slash means nothing
	links bool   // symbolic links below root may be on the way
}

// open opens the place. Without links it must not be reached through one.
func (p place) open(flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: insideOnly}
	if p.links {
		how.Resolve = insideLinks
	}
	for {
		fd, err := unix.Openat2(p.root, p.rel(), &how)
		if err == unix.EAGAIN || err == unix.EINTR { // a rename elsewhere raced with ".."
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("open %s: %w", p.path, err)
		}
		return fd, nil
	}
}

// mkdir makes the directory and those above it where they are missing.
func (p place) mkdir() error {
	fd, err := p.makeDir()
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// isDir reports whether there is a directory.
func (p place) isDir() bool {
	fd, err := p.open(unix.O_PATH | unix.O_DIRECTORY)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// makeDir is mkdir, and opens the directory.
func (p place) makeDir() (fd int, err error) {
	if fd, err := p.open(unix.O_PATH | unix.O_DIRECTORY); err == nil { // most often
		return fd, nil
	}
	if err := p.makeParts(); err != nil {
		return -1, err
	}
	return p.open(unix.O_PATH | unix.O_DIRECTORY)
}

// makeParts makes each part of the path that is missing.
func (p place) makeParts() error {
	at := ""
	for part := range strings.SplitSeq(p.rel(), "/") {
		parent := place{p.root, at, p.links}
		at = path.Join(at, part)
		fd, err := parent.open(unix.O_PATH | unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		err = unix.Mkdirat(fd, part, dirMode)
		unix.Close(fd)
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make directory %s: %w", at, err)
		}
	}
	return nil
}

// dir splits the place into its directory, which is made where it is missing and
// opened, and its name there.
func (p place) dir() (fd int, name string, err error) {
	dir, name := path.Split(p.rel())
	fd, err = place{p.root, dir, p.links}.makeDir()
	return fd, name, err
}

// create makes the place an empty or, given content, a filled regular file in
// place of what was there. The directories above it are made where missing.
func (p place) create(content string, mode uint32) error {
	fd, name, err := p.dir()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("replace %s: %w", p.path, err)
	}
	f, err := unix.Openat(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return fmt.Errorf("make %s: %w", p.path, err)
	}
	defer unix.Close(f)
	if err := writeAll(f, content); err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	return nil
}

func writeAll(fd int, content string) error {
	for len(content) > 0 {
		n, err := unix.Write(fd, []byte(content))
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		content = content[n:]
	}
	return nil
}

// touch makes an empty regular file where nothing is yet, to mount something upon.
func (p place) touch() error {
	if fd, err := p.open(unix.O_PATH); err == nil {
		unix.Close(fd)
		return nil
	}
	fd, name, err := p.dir()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Mknodat(fd, name, unix.S_IFREG|0o644, 0); err != nil {
		return fmt.Errorf("make %s: %w", p.path, err)
	}
	return nil
}

// openFile opens the place, which has to be a regular file, and none of the kernel's: what
// stands in for one of those would lead others astray, and what it says is the stage's.
func (p place) openFile(flags int) (int, error) {
	fd, err := p.open(flags)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	switch {
	case err != nil:
		err = fmt.Errorf("look at %s: %w", p.path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("%s: not a regular file", p.path)
	case notKernels(fd) != nil:
		err = fmt.Errorf("%s: a link into /proc or /sys", p.path)
	default:
		return fd, nil
	}
	unix.Close(fd)
	return -1, err
}

// symlink makes the place a symbolic link; its directory must be there.
func (p place) symlink(target string) error {
	dir, name := path.Split(p.rel())
	fd, err := place{p.root, dir, p.links}.open(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Symlinkat(target, fd, name); err != nil {
		return fmt.Errorf("make symbolic link %s: %w", p.path, err)
	}
	return nil
}

// join is the place below p.
func (p place) join(name string) place { return place{p.root, path.Join(p.path, name), p.links} }

// rel is the path as a relative one, "." for the root itself.
func (p place) rel() string {
	if rel := strings.TrimPrefix(path.Clean("/"+p.path), "/"); rel != "" {
		return rel
	}
	return "."
}
