// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// maxMountinfo bounds in bytes what is read of a mount table. A table above it is
// read in part; what that leaves unknown costs time and nothing else.
const maxMountinfo = 1 << 20

// mountParents returns the directories that have a mount somewhere below them,
// by the table of this process's mount namespace. With it no overlay is tried
// that the kernel would refuse, which takes it two milliseconds each.
func mountParents() (map[string]bool, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMountinfo))
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return parseMountParents(string(b)), nil
}

// parseMountParents reads proc_pid_mountinfo(5). Lines that are not as written
// there are passed over.
func parseMountParents(table string) map[string]bool {
	parents := make(map[string]bool)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) <= mountinfoPoint || !strings.HasPrefix(f[mountinfoPoint], "/") {
			continue
		}
		p := path.Clean(unescapeMount(f[mountinfoPoint]))
		for p != "/" {
			p = path.Dir(p)
			if parents[p] {
				break
			}
			parents[p] = true
		}
	}
	return parents
}

// mountinfoPoint is the index of the field that has the mount point.
const mountinfoPoint = 4

// unescapeMount undoes the kernel's writing of blanks and backslashes in paths as
// octal numbers (mangle_path in fs/seq_file.c).
func unescapeMount(s string) string {
	const digits = 3 // after the backslash
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || len(s) <= i+digits {
			b.WriteByte(s[i])
			continue
		}
		n, ok := 0, true
		for _, d := range []byte(s[i+1 : i+1+digits]) {
			ok = ok && d >= '0' && d <= '7'
			n = n<<3 | int(d-'0')
		}
		if !ok || n > 0xff {
			b.WriteByte(s[i])
			continue
		}
		b.WriteByte(byte(n))
		i += digits
	}
	return b.String()
}
