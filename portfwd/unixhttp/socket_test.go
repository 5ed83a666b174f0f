// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
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
