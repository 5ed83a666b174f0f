// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/tarball"
)

// What a stage in ModeCopy is to do: the first of two words in Process.Args, of which
// the other is a path in the container.
const (
	CopyOut = "out" // write what is at the path to standard output, as a tar archive
	CopyIn  = "in"  // unpack the tar archive of standard input at the path
)

// copyMain carries files into or out of a container that is there, with the rights
// that its root has.
func copyMain(ctl *Control) (int, error) {
	// This process has more rights than the container until it is confined, and its
	// other threads keep them.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("make the init stage untraceable: %w", err)
	}
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	p := &o.Process
	if len(p.Args) != 2 {
		return 0, errors.New("the order has no path to copy")
	}
	id, err := lookUp(p)
	if err != nil {
		return 0, err
	}
	if err := confine(p, id); err != nil {
		return 0, err
	}
	if p.Args[0] == CopyOut {
		return 0, copyOut(p.Args[1])
	}
	return 0, copyIn(p.Args[1])
}

// copyOut packs what is at name. Links on the way are followed, in the container, but
// not one at the end.
func copyOut(name string) error {
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
	return tarball.Pack(os.Stdout, root, base, base)
}

// copyIn unpacks into the directory at name, or else as name.
func copyIn(name string) error {
	o := tarball.Options{SetID: true}
	root, err := enterDir(name)
	if errors.Is(err, unix.ENOENT) {
		dir, base := path.Split(path.Clean("/" + name))
		o.As = base
		root, err = enterDir(dir)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return tarball.Unpack(os.Stdin, root, o)
}

// enterDir makes a directory of the container the working directory, and opens it.
func enterDir(name string) (*os.Root, error) {
	top, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	defer unix.Close(top)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: insideLinks}
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
