// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Without a journal, ext4 passes over inodes that were deleted of late when it looks for
// one for a new file (recently_deleted() in fs/ext4/ialloc.c): for 60 s, or 360 s where
// their block is not on the disk. It looks at each of them again for every new file, so
// that an image that is unpacked where one of as many files was removed takes several
// times as long, for any engine. What is measured is to be the engine, and not what was
// removed before. So stores stay until all subjects have been measured, and each is made
// where new files are cheap.

const (
	// probeFiles is how many files are made to see what one costs: more than a group of
	// inodes has blocks (512 in those of mkfs.ext4). Of each block one inode is
	// taken at once, and makes ext4 remember the others for longer.
	probeFiles = 1024
	// cheapFile is what a new file costs at most where none were deleted. Measured: 10 to
	// 30 µs; 300 to 800 µs where ext4 passes over a whole group of inodes.
	cheapFile = 100 * time.Microsecond
	// mostSites is how many places are tried for a store. Where they all are slow, so is
	// the file system.
	mostSites = 50
)

// newStore makes the empty directory in which the subject keeps what it pulls next.
func (y *yard) newStore(s Subject) error {
	if err := y.roomForStore(); err != nil {
		return err
	}
	for try := 1; ; try++ {
		// ext4 looks for the group with the fewest directories, from one that the name
		// decides on: where it was once, it is not again.
		site := filepath.Join(y.dir, rand.Text())
		if err := os.Mkdir(site, 0o700); err != nil {
			return fmt.Errorf("make a store: %w", err)
		}
		cost, err := probeCost(filepath.Join(site, "probe"))
		if err != nil {
			return err
		}
		if cost > cheapFile && try < mostSites {
			continue // what was made there stays, or it would be deleted of late as well
		}
		y.stores[s.Name] = filepath.Join(site, "store-"+rand.Text()[:8]) // short: Podman takes no longer one for its runroot
		if err := os.Mkdir(y.stores[s.Name], 0o700); err != nil {
			return fmt.Errorf("make a store: %w", err)
		}
		return nil
	}
}

// probeCost makes the directory with files in it and returns what each cost when there
// were some.
func probeCost(dir string) (time.Duration, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, fmt.Errorf("look what a new file costs: %w", err)
	}
	var costs []time.Duration
	for i := range probeFiles {
		start := time.Now()
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		costs = append(costs, time.Since(start))
		if err := errors.Join(err, f.Close()); err != nil {
			return 0, fmt.Errorf("look what a new file costs: %w", err)
		}
	}
	last := costs[probeFiles*3/4:]
	slices.Sort(last)
	return last[len(last)/2], nil
}

// spread asks the file system to lay the directories in dir far from each other, as for
// /home (chattr(1), T). Only ext4 knows that; where it is not done, they are where they are.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
	}
}

// topDir is FS_TOPDIR_FL of linux/fs.h.
const topDir = 0x20000

// storeShare is how much room a store takes at most, as a multiple of the image's bytes:
// those that are pulled, and as many where keep-id copies them or the archive is kept.
const storeShare = 2

// roomForStore returns an error unless the disk has room for one store more.
func (y *yard) roomForStore() error {
	var st unix.Statfs_t
	if err := unix.Statfs(y.dir, &st); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", y.dir, err)
	}
	if free, want := int64(st.Bavail)*st.Bsize/bytesPerMB, int64(storeShare*y.plan.Megabytes); free < want {
		return fmt.Errorf("no room for one image more, and those before stay until the end: %s has %d MB, want %d: choose another place by -dir, or a smaller -size", y.dir, free, want)
	}
	return nil
}
