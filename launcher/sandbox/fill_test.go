// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenUncovered opens what is on a file system itself, and not what is mounted on it.
func TestOpenUncovered(t *testing.T) {
	t.Parallel()
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, flags := range []uint64{unix.O_DIRECTORY, unix.O_NONBLOCK} {
		if fd, err := openUncovered(int(root.Fd()), "proc", flags); fd != -1 || err != nil {
			t.Errorf("a mount, flags %#x: %d, %v, want none", flags, fd, err)
		}
		fd, err := openUncovered(int(root.Fd()), "etc", flags)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		if fd, err := openUncovered(int(root.Fd()), "no such file", flags); fd != -1 || err == nil {
			t.Errorf("no file, flags %#x: %d, %v, want an error", flags, fd, err)
		}
	}
}
