// SPDX-License-Identifier: Apache-2.0

package unpack_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// TestLayerLeaks unpacks good and bad layers: no descriptor and no goroutine is left.
func TestLayerLeaks(t *testing.T) {
	good := pack(t, dir("a/"), file("a/b", strings.Repeat("B", 300<<10)), file("a/c", "C"), hardlink("d", "a/c"), file("a", "replaced"))
	bad := [][]byte{good[:len(good)/2], good[:700], pack(t, file("../x", "")), pack(t, file("a", strings.Repeat("A", 300<<10)), hardlink("b", "c")), []byte("\x1f\x8bno gzip")}
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	p := newPlace(t)
	p.must(t, file("first", "F")) // what the runtime opens once
	places := make([]*place, 1+len(bad))
	for i := range places {
		places[i] = newPlace(t)
	}
	fds, goroutines := descriptors(), runtime.NumGoroutine()
	if _, err := places[0].unpack(good); err != nil {
		t.Fatal(err)
	}
	for i, b := range bad {
		if _, err := places[1+i].unpack(b); err == nil {
			t.Errorf("layer %d was taken", i)
		}
	}
	if got := descriptors(); got != fds {
		t.Errorf("%d descriptors are open, %d before", got, fds)
	}
	for runtime.NumGoroutine() > goroutines {
		runtime.Gosched() // they end by themselves; a leak is a test that does not end
	}
}
