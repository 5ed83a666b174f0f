// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/tarball"
	"golang.org/x/sys/unix"
)

const (
	cpSynopsis = "cp CONTAINER:PATH PATH|-  or  cp PATH|- CONTAINER:PATH"
	cpAbout    = `Copies a file, or a directory with all that is in it, out of a CONTAINER or into it,
whether it runs or not. Into a directory that is there it goes by its own name, else
it gets the new one, in place of a file of that name; DIR/. is what is in DIR. - is a
tar archive at standard output or input. What is copied belongs to you, or in the
container to its root; links stay links, and devices, pipes and sockets in a directory
are left out, as is what /proc, /sys and the like have in them. There is no /proc/self.`
)

// runCp is `slipway cp`.
func runCp(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("cp")
	if code, over := parseFlags(fs, args, cpSynopsis, cpAbout, stdout, stderr); over {
		return code
	}
	if fs.NArg() != 2 {
		return report(stderr, fmt.Errorf("%w: want from where and to where, as in: slipway %s", errUsage, cpSynopsis))
	}
	return report(stderr, copyFiles(fs.Arg(0), fs.Arg(1)))
}

// copyFiles copies from one place to another, of which one is in a container.
func copyFiles(from, to string) error {
	fromName, fromPath, out := cutContainer(from)
	inside := from == "." || strings.HasSuffix(from, "/.") // what is in the directory
	toName, toPath, in := cutContainer(to)
	if out == in {
		return fmt.Errorf("%w: one of the two has to be CONTAINER:PATH, and the other a path of this machine", errUsage)
	}
	var err error
	if out { // it is found from another directory, too
		to, err = absolute(to)
	} else {
		from, err = absolute(from)
	}
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	c, done, err := copierOf(fromName + toName)
	if err != nil {
		return err
	}
	if out {
		err = copyOut(c, fromPath, to)
	} else {
		err = copyIn(c, from, toPath, inside)
	}
	return errors.Join(err, done())
}

// absolute is filepath.Abs of a path that is not -. A slash at its end, by which a
// directory is meant, stays.
func absolute(path string) (string, error) {
	if path == "-" {
		return path, nil
	}
	abs, err := filepath.Abs(path)
	if strings.HasSuffix(path, "/") && abs != "/" {
		abs += "/"
	}
	return abs, err
}

// A copier carries files between a container and archives.
type copier interface {
	Out(ctx context.Context, path string, w *os.File) error
	In(ctx context.Context, path string, r *os.File) error
}

// copierOf returns who carries the files of the container that the word names, and what
// is to be called after that.
func copierOf(word string) (c copier, done func() error, err error) {
	_, ct, err := findContainer(word)
	if err != nil {
		return nil, nil, err
	}
	if ct.Status == state.Exited {
		return stillCopier(ct)
	}
	var e launcher.Exec
	left, err := joinable(word, &e)
	if err != nil {
		return nil, nil, err
	}
	return launcher.Copy{Order: e.Order, PID: e.PID, Pidfd: e.Pidfd}, func() error { left(); return nil }, nil
}

// cutContainer parts CONTAINER:PATH. A path of this machine with a colon in it begins
// with / or a dot.
func cutContainer(s string) (name, path string, ok bool) {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		return "", s, false
	}
	if name, path, ok = strings.Cut(s, ":"); !ok {
		return "", s, false
	}
	return name, path, true
}

// copyOut copies from the container to a path of this machine.
func copyOut(c copier, path, to string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if to == "-" {
		return c.Out(ctx, path, os.Stdout)
	}
	root, o, err := destination(to, filepath.Base(path))
	if err != nil {
		return err
	}
	defer root.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	var packing sync.WaitGroup
	var perr error
	packing.Go(func() {
		perr = c.Out(ctx, path, w)
		w.Close()
	})
	err = tarball.Unpack(r, root, o)
	r.Close() // whoever packs more learns of it
	packing.Wait()
	if perr != nil && (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) {
		return perr // why the archive was cut off
	}
	return err
}

// destination is where files go: into a directory that is there, or by a new name
// into the one above. All of them are to be called as, if that is not "/".
func destination(to, as string) (*os.Root, tarball.Options, error) {
	o := tarball.Options{As: as}
	if as == "/" {
		o.As = ""
	}
	info, err := os.Stat(to)
	if err == nil && info.IsDir() {
		root, err := os.OpenRoot(to)
		return root, o, err
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, o, err
	}
	o.As, o.Dir = filepath.Base(to), strings.HasSuffix(to, "/")
	root, err := os.OpenRoot(filepath.Dir(filepath.Clean(to)))
	return root, o, err
}

// copyIn copies a path of this machine into the container, or what is inside of that.
func copyIn(c copier, from, path string, inside bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if from == "-" {
		return c.In(ctx, path, os.Stdin)
	}
	if _, err := os.Lstat(from); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	dir, name := filepath.Dir(filepath.Clean(from)), filepath.Base(from)
	if inside {
		dir, name = from, "."
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer root.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	var packing sync.WaitGroup
	var perr error
	packing.Go(func() {
		perr = tarball.Pack(w, root, name, name)
		if perr != nil && !errors.Is(perr, unix.EPIPE) {
			cancel() // an archive that is cut off is not to look whole
		}
		w.Close()
	})
	err = c.In(ctx, path, r)
	r.Close()
	packing.Wait()
	if perr != nil && !errors.Is(perr, unix.EPIPE) {
		return perr
	}
	return err
}
