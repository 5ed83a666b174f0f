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
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/slipway-net/slipway/launcher/userns"
)

// What engines store belongs to subordinate ids. It is counted and removed by this
// binary in a user namespace that maps them, as `podman unshare` would.

// The words of such a process.
const (
	idsRemove = "remove" // DIR: remove it with all below
	idsDisk   = "disk"   // DIR: print how many bytes it takes on the disk
)

// removeAll removes the directory and all below.
func removeAll(dir string) error {
	_, err := withIDs(idsRemove, dir)
	return err
}

// diskUsage returns how many bytes the directory and all below takes on the disk. A
// file with several names counts once.
func diskUsage(dir string) (int64, error) {
	out, err := withIDs(idsDisk, dir)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(out), 10, 64)
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
		n, err := countBlocks(dirs[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, n)
		return err
	}
	return fmt.Errorf("no such word: %q", word)
}

// statBlock is the unit of a file's blocks (stat(2)), in bytes.
const statBlock = 512

// countBlocks adds up what files take on the disk.
func countBlocks(dir string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	total := int64(0)
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
			total += st.Blocks * statBlock
		}
		return nil
	})
	return total, err
}
