// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/launcher/store"
)

// TestWritableRemove removes what the kernel leaves of an overlay, also of a volatile
// one: directories that not even their owner may read. The stage, which could, cannot
// be started with a context that is over.
func TestWritableRemove(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read any directory")
	}
	s := open(t)
	for _, left := range [][]string{{"work"}, {"work", "work/incompat", "work/incompat/volatile"}} {
		w, err := s.NewWritable(t.Context(), store.Digest("sha256:"+strings.Repeat("0", 64)), s.Mapping, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range left {
			err = errors.Join(err, os.Mkdir(filepath.Join(w.Work, name), 0o700))
		}
		for i := range left {
			err = errors.Join(err, os.Chmod(filepath.Join(w.Work, left[len(left)-1-i]), 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Remove(over); err != nil {
			t.Errorf("with %q: %v", left, err)
		}
		if _, err := os.Lstat(filepath.Dir(w.Work)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("with %q: still there: %v", left, err)
		}
	}
}
