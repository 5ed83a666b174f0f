// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/slipway-net/slipway/launcher/unlink"
	"github.com/slipway-net/slipway/launcher/unpack"
	"golang.org/x/sys/unix"
)

// content is what the file of the data-only layer has.
const content = "content"

// Serve is the main function of the stage StageName; it returns the exit code. Its word
// is the path of fuse-overlayfs, empty for none. The working directory is empty, and is
// so afterwards.
func Serve(args []string, stdout, stderr io.Writer) int {
	// Nothing that is mounted here is seen anywhere else.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintf(stderr, "keep mounts to ourselves: %v\n", err)
		return 1
	}
	fuse := ""
	if len(args) > 0 {
		fuse = args[0]
	}
	s := try(fuse)
	if err := clear(); err != nil {
		fmt.Fprintf(stderr, "remove what was tried: %v\n", err)
		return 1
	}
	if err := json.NewEncoder(stdout).Encode(s); err != nil {
		return 1
	}
	return 0
}

// try tries all; fuse is the path of fuse-overlayfs.
func try(fuse string) Support {
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
	switch {
	case s.Native:
		s.Data = note("data-only layers", tryData())
	case fuse == "":
		s.Why = append(s.Why, FuseName+": it is not installed")
	case note(FuseName, tryFuse(fuse)):
		s.Fuse = fuse
	}
	return s
}

// tryNative removes a directory that two layers have. The upper layer is below upper.
func tryNative(upper string) error {
	if err := makeLayers(); err != nil {
		return err
	}
	return mounted(upper, "high:low", tryRemove)
}

// makeLayers makes two layers with a directory that both have.
func makeLayers() error {
	for _, f := range []string{"low/dir/a", "high/dir/b"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o755), os.WriteFile(f, nil, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// tryRemove removes that directory where the layers are mounted.
func tryRemove(at string) error {
	if err := os.RemoveAll(filepath.Join(at, "dir")); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(at, "dir")); !errors.Is(err, os.ErrNotExist) {
		return errors.New("a removed directory is still there")
	}
	return os.WriteFile(filepath.Join(at, "new"), nil, 0o644)
}

// tryFuse is tryNative by the program fuse-overlayfs, as a container has it: on a mount
// that is made before.
func tryFuse(program string) error {
	if err := makeLayers(); err != nil {
		return err
	}
	for _, d := range []string{"fuse-upper", "fuse-work", "fuse-at"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	device, err := os.OpenFile(fuseDevice, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device.Fd())
	if err := unix.Mount(FuseName, "fuse-at", "fuse", 0, options); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "-f", "-o", "lowerdir=high:low,upperdir=fuse-upper,workdir=fuse-work", "/dev/fd/3")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{device}, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err = cmd.Start(); err == nil {
		device.Close() // else nobody would tell of its end
		err = tryRemove("fuse-at")
	}
	// With the mount the program ends.
	if uerr := unix.Unmount("fuse-at", unix.MNT_DETACH); uerr != nil {
		return errors.Join(err, uerr)
	}
	if cmd.Process != nil {
		_ = cmd.Wait() // what it could not do has been seen
	}
	if out := said.Bytes(); err != nil && len(out) > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out[:min(len(out), maxOutput)]))
	}
	return err
}

// maxOutput is how much of what fuse-overlayfs says is told, in bytes.
const maxOutput = 1 << 10

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
		err = errors.Join(err, unlink.Tree(int(dir.Fd()), n))
	}
	return err
}
