// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenRace has several helpers want one name, at which somebody died: one gets it,
// and is not robbed of it.
func TestListenRace(t *testing.T) {
	const helpers, rounds = 8, 200
	for range rounds {
		path := filepath.Join(t.TempDir(), "s")
		stale, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		stale.(*net.UnixListener).SetUnlinkOnClose(false)
		stale.Close()
		var wg sync.WaitGroup
		start := make(chan struct{})
		got := make([]net.Listener, helpers)
		for i := range helpers {
			wg.Go(func() {
				<-start
				l, err := ListenSocket(path)
				if err == nil {
					got[i] = l
				} else if !errors.Is(err, os.ErrExist) {
					t.Errorf("one who comes too late gets %v, want %v", err, os.ErrExist)
				}
			})
		}
		close(start)
		wg.Wait()
		n := 0
		for _, l := range got {
			if l == nil {
				continue
			}
			n++
			l.Close()
		}
		if n != 1 {
			t.Fatalf("%d listen at one name, want 1", n)
		}
	}
}

// TestListenInLockedDirectory has somebody keep the directory locked, as RootlessKit
// does with the one in which it wants the API socket of slirp4netns.
func TestListenInLockedDirectory(t *testing.T) {
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l, err := ListenSocket(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("there are %v, error %v, want the socket alone", files, err)
	}
	l.Close()
}
