// SPDX-License-Identifier: Apache-2.0

package resources

import (
	"os"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	cpu, rss, ok := parseStat([]byte("1 (a) b) S 0 1 1 0 -1 4194560 1 1 1 1 10 20 30 40 20 0 1 0 77 1000 3 9 9"))
	if want := time.Second; !ok || cpu != want || rss != 3*int64(os.Getpagesize()) {
		t.Errorf("parseStat: %v, %d, %v", cpu, rss, ok)
	}
	if pss, ok := parsePss([]byte("0-1 ---p 00 00:00 0 [rollup]\nRss:  9 kB\nPss:   4 kB\nPss_Dirty: 1 kB\n")); !ok || pss != 4096 {
		t.Errorf("parsePss: %d, %v", pss, ok)
	}
	r, s := parseDev([]byte("Inter-| Receive | Transmit\n face |bytes |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0\n  tap0: 5 0 0 0 0 0 0 0 7 0 0\n  eth1:1 0 0 0 0 0 0 0 1 0 0\n"))
	if r != 6 || s != 8 {
		t.Errorf("parseDev: %d, %d, want 6, 8", r, s)
	}
}

// TestOf looks at this process's own namespace, as if it were a container, and at one
// that is not there.
func TestOf(t *testing.T) {
	all, err := Of([]int{os.Getpid(), 1 << 30})
	if err != nil || all[0] == nil || all[1] != nil {
		t.Fatalf("Of: %v, %v", all, err)
	}
	if u := all[0]; u.Processes < 1 || u.Memory < 1<<20 || u.Received != 0 {
		t.Errorf("usage %+v", u)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("1 (a) S 0 1 1 0 -1 4194560 1 1 1 1 10 20 30 40 20 0 1 0 77 1000 3 9 9"))
	f.Add([]byte("tap0: 5 0 0 0 0 0 0 0 7 0 0\nPss: 4 kB"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if cpu, _, ok := parseStat(b); ok && cpu < 0 && len(b) < 64 {
			t.Errorf("processor time %v", cpu)
		}
		parsePss(b)
		parseDev(b)
	})
}
