// SPDX-License-Identifier: Apache-2.0

package tarball

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Carry is one side of a copy: out packs what is at name to standard output, else what
// standard input has is unpacked in the directory at name, or, if there is none, as
// name, in the place of a file of that name. A name that ends in a slash is a
// directory's. Links on the way to name are followed within the root directory, as a
// process that has that root would, but not one at its end.
func Carry(out bool, name string) error {
	if out {
		return carryOut(name)
	}
	return carryIn(name)
}

func carryOut(name string) error {
	dir, base := path.Split(path.Clean("/" + name))
	if base == "" {
		base = "."
	}
	root, err := enterDir(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := root.Lstat(base); err != nil {
		return fmt.Errorf("copy the container's %s: %w", name, errors.Unwrap(err))
	}
	return Pack(os.Stdout, root, base, base)
}

func carryIn(name string) error {
	o := Options{SetID: true}
	root, err := enterDir(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		dir, base := path.Split(path.Clean("/" + name))
		o.As, o.Dir = base, strings.HasSuffix(name, "/")
		root, err = enterDir(dir)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return Unpack(os.Stdin, root, o)
}

// enterDir makes a directory below the root the working directory, and opens it.
func enterDir(name string) (*os.Root, error) {
	top, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	defer unix.Close(top)
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(top, name, &how)
	if err != nil {
		return nil, fmt.Errorf("open the container's %s: %w", name, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchdir(fd); err != nil {
		return nil, fmt.Errorf("open the container's %s: %w", name, err)
	}
	return os.OpenRoot(".")
}
