// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFiles gives a command descriptors, which this process has no more when it runs.
func TestFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "empty")
	write(t, name, "")
	for _, init := range []bool{true, false} {
		c := sh("cat <&3 <&4; ls /proc/self/fd | tr '\\n' ' '")
		c.Init = &init
		for range 2 {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			c.Files = append(c.Files, fd)
		}
		var closed bool
		c.Started = func(int) {
			closed = true
			for _, fd := range c.Files {
				at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
				closed = closed && (err != nil || at != name)
			}
		}
		if got := run(t, c).must(t); got != "0 1 2 3 4 5" && got != "0 1 2 3 4 5 " { // 5 is ls's own
			t.Errorf("descriptors %q", got)
		}
		if !closed {
			t.Error("the launcher has the descriptors still")
		}
	}
}
