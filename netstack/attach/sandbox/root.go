// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stage is where the new root is built: a directory that is always there, has no
// place that stays in reach, and is hidden from nobody else, since the mounts are
// those of a namespace of its own.
const stage = "/proc"

// stageOptions bound the new root, which has a few directories and links.
const stageOptions = "size=64k,nr_inodes=256,mode=755"

// joined are the kinds of namespaces that all threads enter together. That there are
// two is what lets threads that share their root enter one of mounts (see the
// package's documentation).
const joined = unix.CLONE_NEWNS | unix.CLONE_NEWUTS

// errNoRight is for a process that may not make mounts.
var errNoRight = errors.New("this takes CAP_SYS_ADMIN and CAP_SYS_CHROOT in the process' user namespace, which a plain user outside of one does not have")

// emptyRoot gives the process a root with the places and nothing else. After an
// error its root is as it was.
func emptyRoot(p places) error {
	has, err := held()
	if err != nil {
		return err
	}
	if has&makeRoot != makeRoot {
		return errNoRight
	}
	done := make(chan error)
	go func() {
		// It is never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		done <- enterRoot(p)
	}()
	return <-done
}

// enterRoot makes the root in a namespace of the calling thread's own, and has all
// threads follow there.
func enterRoot(p places) error {
	if err := unix.Unshare(joined); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := p.build(); err != nil {
		return err
	}
	h, err := newHolder()
	if err != nil {
		return err
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETNS, uintptr(h.pidfd), joined, 0)
	err = h.close()
	switch {
	case errno == unix.ENOTSUP:
		return errors.New("this program was built with cgo: build it with CGO_ENABLED=0")
	case errno == unix.EINVAL:
		return errors.New("all threads cannot enter a mount namespace together: this takes Linux 5.8")
	case errno != 0:
		return fmt.Errorf("enter the mount namespace: %w", errno)
	}
	return err
}

// build makes the new root of the calling thread's mount namespace. What is unmounted
// in the namespace that it was copied from goes from this one as well, but nothing
// that happens here can be seen there.
func (p places) build() error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("part the mounts from the host's: %w", err)
	}
	if err := unix.Mount("slipway", stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, stageOptions); err != nil {
		return fmt.Errorf("mount the new root: %w", err)
	}
	for _, at := range p.all {
		if err := at.bind(); err != nil {
			return fmt.Errorf("keep %s in reach: %w", at.path, err)
		}
	}
	for at, to := range p.links {
		if err := p.link(at, to); err != nil {
			return fmt.Errorf("keep the link %s: %w", at, err)
		}
	}
	if err := unix.Chdir(stage); err != nil {
		return fmt.Errorf("go to the new root: %w", err)
	}
	// The old root is mounted on the new one, and goes (pivot_root(2), NOTES).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return restrict("/", unix.MOUNT_ATTR_RDONLY, 0)
}

// bind mounts the place below the new root. It can be written to only where files are
// to be removed.
func (p place) bind() error {
	if p.path == "/" {
		return errors.New("it is the root: use files in a directory of their own")
	}
	at := filepath.Join(stage, p.path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	make := func() error { return os.Mkdir(at, 0o755) }
	if p.file {
		make = func() error { return os.WriteFile(at, nil, 0o644) }
	}
	// It is there where the place is in another one.
	if _, err := os.Lstat(at); errors.Is(err, os.ErrNotExist) {
		if err := make(); err != nil {
			return err
		}
	}
	// With all that is mounted below, which a user namespace may not uncover.
	if err := unix.Mount(p.path, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind it: %w", err)
	}
	attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC)
	if p.use&(useRemove|useChange|useClear|usePrune) == 0 {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	return restrict(at, attrs, unix.AT_RECURSIVE)
}

// restrict sets attributes of mounts. Before Linux 5.12 they stay as they are: the
// other parts of the sandbox let nothing be written or executed there, either.
func restrict(path string, attrs uint64, flags uint) error {
	err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: attrs})
	if err != nil && err != unix.ENOSYS {
		return fmt.Errorf("restrict mounts: %w", err)
	}
	return nil
}

// link makes a symbolic link of the new root, unless it is in a place and so there.
func (p places) link(path, to string) error {
	if slices.ContainsFunc(p.all, func(at place) bool { return strings.HasPrefix(path, at.path+"/") }) {
		return nil
	}
	at := filepath.Join(stage, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return os.Symlink(to, at)
}
