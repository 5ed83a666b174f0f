// SPDX-License-Identifier: Apache-2.0

package launcher

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

// dirMode is the mode of directories that the launcher makes.
const dirMode = 0o755

// A place is a path below an open directory, looked up anew each time it is
// opened.
type place struct {
	root int    // a directory
	path string // below root; a leading slash means nothing
}

// open opens the place, which must not be reached through a symbolic link.
func (p place) open(flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: insideOnly}
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
	at := ""
	for part := range strings.SplitSeq(p.rel(), "/") {
		parent := place{p.root, at}
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

// create makes the place an empty or, given content, a filled regular file in
// place of what was there. The directories above it are made where missing.
func (p place) create(content string, mode uint32) error {
	dir, name := path.Split(p.rel())
	if dir != "" {
		if err := (place{p.root, dir}).mkdir(); err != nil {
			return err
		}
	}
	fd, err := place{p.root, dir}.open(unix.O_PATH | unix.O_DIRECTORY)
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
	for len(content) > 0 {
		n, err := unix.Write(f, []byte(content))
		if err != nil {
			return fmt.Errorf("write %s: %w", p.path, err)
		}
		content = content[n:]
	}
	return nil
}

// symlink makes the place a symbolic link; its directory must be there.
func (p place) symlink(target string) error {
	dir, name := path.Split(p.rel())
	fd, err := place{p.root, dir}.open(unix.O_PATH | unix.O_DIRECTORY)
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
func (p place) join(name string) place { return place{p.root, path.Join(p.path, name)} }

// rel is the path as a relative one, "." for the root itself.
func (p place) rel() string {
	return strings.TrimPrefix(path.Clean("/"+p.path), "/") + dotIfRoot(p.path)
}

func dotIfRoot(p string) string {
	if path.Clean("/"+p) == "/" {
		return "."
	}
	return ""
}
