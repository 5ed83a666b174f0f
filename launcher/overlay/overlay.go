// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/launcher/userns"
	"golang.org/x/sys/unix"
)

// StageName is the name of the stage (userns.Stage) that tries; main calls Serve for it.
const StageName = "overlay"

// probeVersion is that of what is tried; the answer of another is not taken.
const probeVersion = 2

// maxAnswers bounds the answers that are kept: for stores and versions of this program
// that take turns. maxCache bounds their file, in bytes.
const (
	maxAnswers = 8
	maxCache   = 64 << 10
)

// A Support says what overlayfs can do with directories of one file system. The zero
// Support is nothing.
type Support struct {
	Native bool `json:"native"` // it can be the root of a container
	Upper  bool `json:"upper"`  // what a container writes can lie on the file system, too
	Data   bool `json:"data"`   // there are data-only layers
	// Fuse is the path of a fuse-overlayfs that can, where Native is not; empty for none.
	Fuse string `json:"fuse,omitempty"`
	// Why says what was in the way of what is missing, one line for each.
	Why []string `json:"why,omitempty"`
}

// cache is an answer and what it holds for.
type cache struct {
	Version int     `json:"version"`
	Boot    string  `json:"boot"`
	Dev     uint64  `json:"dev"`
	IDs     string  `json:"ids"`
	Program string  `json:"program,omitempty"` // fuse-overlayfs, which may be installed later
	Device  bool    `json:"device"`            // /dev/fuse can be opened
	Support Support `json:"support"`
}

// Find says what overlayfs can do in dir, a directory of the caller's, for files with
// the ids m. The answer is kept in file until the next boot, beside
// some for other directories.
func Find(ctx context.Context, dir, file string, m userns.Mapping) (Support, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return Support{}, fmt.Errorf("look at %s: %w", dir, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Support{}, fmt.Errorf("tell this boot from others: %w", err)
	}
	want := cache{Version: probeVersion, Boot: strings.TrimSpace(string(boot)), Dev: st.Dev, IDs: m.String(), Program: fuseProgram(), Device: canFuse()}
	kept := read(file)
	for _, c := range kept {
		if s, ok := c.answers(want); ok {
			return s, nil
		}
	}
	if want.Support, err = Probe(ctx, dir, m); err != nil {
		return Support{}, err
	}
	// The latest comes first, and takes the place of those that held for the same once.
	kept = slices.DeleteFunc(kept, func(c cache) bool {
		return c.Boot != want.Boot || c.Version == want.Version && c.Dev == want.Dev && c.IDs == want.IDs
	})
	kept = append([]cache{want}, kept[:min(len(kept), maxAnswers-1)]...)
	return want.Support, write(file, kept)
}

// read returns the answers in file.
func read(file string) []cache {
	b, err := os.ReadFile(file)
	var all []cache
	if err != nil || len(b) > maxCache || json.Unmarshal(b, &all) != nil {
		return nil
	}
	return all
}

// answers returns what c says, if that holds for what want says.
func (c cache) answers(want cache) (Support, bool) {
	s := c.Support
	want.Support, c.Support = Support{}, Support{}
	if s.Native { // then these do not matter
		c.Program, c.Device = want.Program, want.Device
	}
	return s, reflect.DeepEqual(c, want)
}

// write replaces the answers in file.
func write(file string, all []cache) error {
	b, err := json.Marshal(all)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	var f *os.File
	if err == nil {
		f, err = os.CreateTemp(filepath.Dir(file), ".overlay-")
	}
	if err != nil {
		return fmt.Errorf("keep what overlayfs can do: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("keep what overlayfs can do: %w", err)
	}
	return nil
}

// Probe tries what overlayfs can do in dir, for files with the ids m. Nothing remains
// there.
func Probe(ctx context.Context, dir string, m userns.Mapping) (Support, error) {
	tmp, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return Support{}, fmt.Errorf("try overlayfs: %w", err)
	}
	defer os.RemoveAll(tmp) // the stage removes what is in it
	var out, errs bytes.Buffer
	cmd := userns.Command(ctx, m, StageName, fuseProgram())
	cmd.Dir, cmd.Stdout, cmd.Stderr = tmp, &out, &errs
	cmd.Namespaces = unix.CLONE_NEWNS
	if err := cmd.Run(); err != nil {
		return Support{}, fmt.Errorf("try overlayfs: %w: %s", err, strings.TrimSpace(errs.String()))
	}
	var s Support
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return Support{}, fmt.Errorf("try overlayfs: %w", err)
	}
	return s, nil
}

// FuseName is the program that stacks layers where the kernel cannot.
const FuseName = "fuse-overlayfs"

// fuseProgram is the path of FuseName; empty if it is not installed.
func fuseProgram() string {
	path, err := exec.LookPath(FuseName)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return ""
	}
	return path
}

// fuseDevice is where it connects to the kernel (fuse(4)).
const fuseDevice = "/dev/fuse"

// canFuse reports whether the caller may open that.
func canFuse() bool { return unix.Access(fuseDevice, unix.R_OK|unix.W_OK) == nil }

// FindFuse returns the path of FuseName, and says what is missing for its use, which it
// does not try.
func FindFuse() (string, error) {
	path := fuseProgram()
	switch {
	case path == "":
		return "", fmt.Errorf("%s is not installed: install the package of that name", FuseName)
	case !canFuse():
		return "", errors.New("/dev/fuse cannot be opened: to mend it: sudo modprobe fuse && sudo chmod 666 /dev/fuse; in a container, pass it on: --device /dev/fuse")
	}
	return path, nil
}
