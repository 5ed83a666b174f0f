// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/launcher/unlink"
	"golang.org/x/sys/unix"
)

// dirMode is the mode of a directory that no entry of the archive tells of.
const dirMode = 0o755

// maxParents is the number of directories that are kept open, which those of an
// archive in the usual order hardly exceed.
const maxParents = 64

// A tree is the directory that is filled. Every path is resolved by the kernel as if
// the tree were the root (RESOLVE_IN_ROOT of openat2(2)): neither ".." nor a symbolic
// link leads out of it, whatever is done to the tree meanwhile.
type tree struct {
	root    int
	aside   int            // where replaced files are kept; -1 for nowhere
	set     []string       // the paths of what is in aside, the n-th of which is named n; with a slash for a directory
	setSize int            // bytes of those
	parents map[string]int // open directories (O_PATH) by path
	last    string         // the path of the one asked for last
	stale   bool           // parents may not be what their paths lead to
}

func newTree(root, aside int) *tree {
	return &tree{root: root, aside: aside, parents: map[string]int{}}
}

// close closes the open directories.
func (t *tree) close() { t.forget("") }

// forget closes the open directories but that of the path keep.
func (t *tree) forget(keep string) {
	for p, fd := range t.parents {
		if p != keep {
			unix.Close(fd)
			delete(t.parents, p)
		}
	}
}

// clean is the path of an entry within the tree, without a slash at either end; that
// of the tree itself is empty.
func clean(name string) (string, error) {
	if len(name) > maxName {
		return "", fmt.Errorf("%.40q…: a name of more than %d bytes", name, maxName)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%q: a name with a NUL byte", name)
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", fmt.Errorf("%q: the name leads out of the layer", name)
	}
	if p == "." {
		return "", nil
	}
	return p, nil
}

// split returns the directory that p is in and p's last element.
func split(p string) (dir, name string) {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)], p[i+1:]
}

// open opens a path of the tree. Its last element is not followed if flags say so.
func (t *tree) open(p string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(t.root, p, &how)
		// EAGAIN: a rename or mount somewhere came in between (openat2(2)).
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// read opens the directory p to read it, not following a symbolic link.
func (t *tree) read(p string) (int, error) {
	if p == "" {
		return openNoFollow(t.root, ".")
	}
	return t.open(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
}

// dir returns the directory p, open at least until the next but one is asked for;
// missing ones are made, and so are those that symbolic links name.
func (t *tree) dir(p string) (int, error) {
	if t.stale {
		t.close()
		t.stale = false
	}
	if p == "" {
		return t.root, nil
	}
	if fd, ok := t.parents[p]; ok {
		t.last = p
		return fd, nil
	}
	fd, err := t.openDir(p, 0)
	if err != nil {
		return -1, err
	}
	if len(t.parents) >= maxParents {
		t.forget(t.last)
	}
	t.parents[p], t.last = fd, p
	return fd, nil
}

func (t *tree) openDir(p string, links int) (int, error) {
	fd, err := t.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return fd, err
	}
	if links > maxLinks {
		return -1, unix.ELOOP
	}
	up, name := split(p)
	at := t.root
	if up != "" {
		if at, err = t.openDir(up, links); err != nil {
			return -1, err
		}
		defer unix.Close(at)
	}
	switch err := unix.Mkdirat(at, name, dirMode); {
	case errors.Is(err, unix.EEXIST):
		to, err := t.through(at, name, up)
		if err != nil {
			return -1, err
		}
		if to != "" {
			return t.openDir(to, links+1)
		}
	case err != nil:
		return -1, err
	}
	return t.open(p, unix.O_PATH|unix.O_DIRECTORY)
}

// through makes a way through what is no directory: of a symbolic link to what is not
// there it returns the target; in the place of a whiteout, of which something follows
// that is below it, it makes a directory that shows nothing of lower layers.
func (t *tree) through(at int, name, up string) (string, error) {
	st, err := lookup(at, name)
	switch {
	case err != nil:
		return "", err
	case st == nil:
		return "", unix.ENOENT
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		to, err := readLink(at, name)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(to) {
			to = path.Join("/", up, to)
		}
		return clean(to)
	case st.Mode&unix.S_IFMT != unix.S_IFCHR:
		return "", unix.ENOTDIR
	}
	if err := unix.Unlinkat(at, name, 0); err != nil {
		return "", err
	}
	if err := unix.Mkdirat(at, name, dirMode); err != nil {
		return "", err
	}
	fd, err := openNoFollow(at, name)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return "", setOpaque(fd)
}

func readLink(at int, name string) (string, error) {
	buf := make([]byte, maxName)
	n, err := unix.Readlinkat(at, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// lookup returns the status of the file name in the directory at, not following a
// symbolic link; nil for none.
func lookup(at int, name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return &st, err
}

// replace removes the file p, which is name in the directory at, for another. A
// regular one that the archive is to be made of again is put aside, and so is a
// directory with all that is in it.
func (t *tree) replace(at int, name, p string) error {
	st, err := lookup(at, name)
	if err != nil || st == nil {
		return err
	}
	t.stale = true // it may have been part of a path
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR && t.aside >= 0:
		return t.putAside(at, name, p+"/")
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return unlink.Tree(at, name)
	case st.Mode&unix.S_IFMT == unix.S_IFREG && t.aside >= 0:
		return t.putAside(at, name, p)
	}
	return unix.Unlinkat(at, name, 0)
}

// putAside moves the file name in the directory at to those that are put aside.
func (t *tree) putAside(at int, name, p string) error {
	if t.setSize += len(p); t.setSize > maxAside {
		return fmt.Errorf("more than %d KiB of names of files that are in it more than once", maxAside>>10)
	}
	if err := unix.Renameat(at, name, t.aside, strconv.Itoa(len(t.set))); err != nil {
		return err
	}
	t.set = append(t.set, p)
	return nil
}
