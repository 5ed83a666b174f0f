// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher/unpack"
	"golang.org/x/sys/unix"
)

// content is what the file of the data-only layer has.
const content = "content"

// Serve is the main function of the stage StageName; it returns the exit code. The
// working directory is empty, and is so afterwards.
func Serve(stdout, stderr io.Writer) int {
	// Nothing that is mounted here is seen anywhere else.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintf(stderr, "keep mounts to ourselves: %v\n", err)
		return 1
	}
	s := try()
	if err := clear(); err != nil {
		fmt.Fprintf(stderr, "remove what was tried: %v\n", err)
		return 1
	}
	if err := json.NewEncoder(stdout).Encode(s); err != nil {
		return 1
	}
	return 0
}

// try tries all.
func try() Support {
	var s Support
	note := func(what string, err error) bool {
		if err != nil {
			s.Why = append(s.Why, what+": "+err.Error())
		}
		return err == nil
	}
	s.Upper = note("layers on this file system", tryNative("."))
	s.Native = s.Upper
	if !s.Native {
		s.Native = note("the upper layer in memory", tryMemory())
	}
	if s.Native {
		s.Data = note("data-only layers", tryData())
	}
	return s
}

// tryNative removes a directory that two layers have. The upper layer is below upper.
func tryNative(upper string) error {
	for _, f := range []string{"low/dir/a", "high/dir/b"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o755), os.WriteFile(f, nil, 0o644)); err != nil {
			return err
		}
	}
	return mounted(upper, "high:low", func(at string) error {
		if err := os.RemoveAll(filepath.Join(at, "dir")); err != nil {
			return err
		}
		if _, err := os.Lstat(filepath.Join(at, "dir")); !errors.Is(err, os.ErrNotExist) {
			return errors.New("a removed directory is still there")
		}
		return os.WriteFile(filepath.Join(at, "new"), nil, 0o644)
	})
}

// tryMemory is tryNative with the upper layer on a tmpfs.
func tryMemory() error {
	if err := os.MkdirAll("memory", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "memory", "tmpfs", 0, ""); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount("memory", unix.MNT_DETACH) }()
	return tryNative("memory")
}

// tryData reads a file whose content is in a data-only layer.
func tryData() error {
	for _, d := range []string{"meta", "data"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile("data/object", []byte(content), 0o644); err != nil {
		return err
	}
	f, err := os.Create("meta/file")
	if err == nil {
		err = errors.Join(f.Truncate(int64(len(content))), f.Close())
	}
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Setxattr("meta/file", unpack.MetacopyXattr, nil, 0), unix.Setxattr("meta/file", unpack.RedirectXattr, []byte("/object"), 0)); err != nil {
		return err
	}
	if err := os.MkdirAll("memory", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "memory", "tmpfs", 0, ""); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount("memory", unix.MNT_DETACH) }()
	return mounted("memory", "meta::data", func(at string) error {
		b, err := os.ReadFile(filepath.Join(at, "file"))
		if err == nil && string(b) != content {
			err = fmt.Errorf("a file of one has %q", b)
		}
		return err
	})
}

// mounted mounts layers, with an upper one below the directory upper, and calls f with
// where.
func mounted(upper, lowers string, f func(at string) error) error {
	u, w := filepath.Join(upper, "upper"), filepath.Join(upper, "work")
	for _, d := range []string{u, w, "at"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", "at", "overlay", 0, "userxattr,lowerdir="+lowers+",upperdir="+u+",workdir="+w); err != nil {
		return fmt.Errorf("mount overlayfs: %w", err)
	}
	return errors.Join(f("at"), unix.Unmount("at", unix.MNT_DETACH))
}

// clear removes all that is in the working directory.
func clear() error {
	dir, err := os.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, n := range names {
		err = errors.Join(err, unpack.Remove(int(dir.Fd()), n))
	}
	return err
}
