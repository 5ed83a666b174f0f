// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/slipway-net/slipway/launcher/userns"
)

// What engines store belongs to subordinate ids. It is counted and removed by this
// binary in a user namespace that maps them, as `podman unshare` would.

// The words of such a process.
const (
	idsRemove = "remove" // DIR: remove it with all below
	idsDisk   = "disk"   // DIR: print what it takes on the disk
)

// removeAll removes the directory and all below.
func removeAll(dir string) error {
	_, err := withIDs(idsRemove, dir)
	return err
}

// A diskUse is what a directory and all below takes on the disk. A file with several
// names counts once.
type diskUse struct {
	Bytes int64 `json:"bytes"`
	Files int   `json:"files"` // regular ones
}

// diskUsage counts what the directory takes.
func diskUsage(dir string) (diskUse, error) {
	var u diskUse
	out, err := withIDs(idsDisk, dir)
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal([]byte(out), &u); err != nil {
		return u, fmt.Errorf("count what is on the disk: %w", err)
	}
	return u, nil
}

// withIDs runs the word with the directory and returns what it prints.
func withIDs(word, dir string) (string, error) {
	caller, err := userns.Load()
	if err != nil {
		return "", err
	}
	ids, err := caller.Default()
	if err != nil {
		ids = caller.Single() // then nothing belongs to others
	}
	// The process dies with the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := userns.Command(context.Background(), ids, word, dir)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", word, dir, err, excerpt(lastLine(said.String())))
	}
	return out.String(), nil
}

// runWithIDs is that process.
func runWithIDs(args []string, w io.Writer) error {
	word, dirs, err := userns.Stage(args)
	if err != nil {
		return err
	}
	if len(dirs) != 1 {
		return fmt.Errorf("%s: %d directories: want one", word, len(dirs))
	}
	switch word {
	case idsRemove:
		return os.RemoveAll(dirs[0])
	case idsDisk:
		u, err := countBlocks(dirs[0])
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(u)
	}
	return fmt.Errorf("no such word: %q", word)
}

// statBlock is the unit of a file's blocks (stat(2)), in bytes.
const statBlock = 512

// countBlocks adds up what files take on the disk.
func countBlocks(dir string) (diskUse, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var total diskUse
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return errors.New("this system does not say how large files are on the disk")
		}
		if at := (inode{st.Dev, st.Ino}); !seen[at] {
			seen[at] = true
			total.Bytes += st.Blocks * statBlock
			if d.Type().IsRegular() {
				total.Files++
			}
		}
		return nil
	})
	return total, err
}
