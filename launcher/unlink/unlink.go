// SPDX-License-Identifier: Apache-2.0

package unlink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxDepth is the number of directories, one in another, that are open at a time
// while a tree is removed; removeBatch is the number of names that are read at once.
const (
	maxDepth    = 128
	removeBatch = 256
)

// Tree removes the file name in the directory at, and if it is a directory all
// that is below it, however deep: a container can nest directories without end. It
// follows no symbolic link. The caller must be able to write every directory, as
// root of a user namespace with the owners' ids can. No file is no error.
func Tree(at int, name string) error {
	err := unix.Unlinkat(at, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR):
		return err
	}
	fd, err := open(at, name)
	if err != nil {
		return ignoreNotExist(err)
	}
	defer unix.Close(fd)
	if err := Empty(fd); err != nil {
		return err
	}
	return ignoreNotExist(unix.Unlinkat(at, name, unix.AT_REMOVEDIR))
}

// Empty removes as Tree does what is in the open directory fd.
func Empty(fd int) error {
	r := remover{top: fd}
	// What lies too deep is moved to the top, and gone with the next round.
	for more := true; more; {
		r.moved = 0
		if err := r.empty(fd, 0); err != nil {
			return err
		}
		more = r.moved > 0
	}
	return nil
}

func ignoreNotExist(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// A remover empties the directory top.
type remover struct {
	top   int
	n     int // names given out
	moved int // directories moved to the top in this round
}

// empty removes what is in the directory fd, which is depth levels below the top.
func (r *remover) empty(fd, depth int) error {
	again, err := open(fd, ".")
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(again), "directory")
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(removeBatch)
		for _, name := range names {
			// Another process may be at it, too.
			if err := r.remove(fd, name, depth); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// remove removes name in the directory fd.
func (r *remover) remove(fd int, name string, depth int) error {
	err := unix.Unlinkat(fd, name, 0)
	if err == nil || !errors.Is(err, unix.EISDIR) {
		return err
	}
	if depth >= maxDepth {
		return r.lift(fd, name)
	}
	sub, err := open(fd, name)
	if err != nil {
		return err
	}
	err = r.empty(sub, depth+1)
	unix.Close(sub)
	if err != nil {
		return err
	}
	return unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
}

// lift moves the directory name of fd to the top, under a name that is free there.
func (r *remover) lift(fd int, name string) error {
	for {
		r.n++
		err := unix.Renameat2(fd, name, r.top, ".lifted-"+strconv.Itoa(r.n), unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			r.moved++
			return err
		}
	}
}

// open opens the directory name of at to read it, if it is no link.
func open(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}
