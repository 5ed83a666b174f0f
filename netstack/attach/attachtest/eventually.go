// SPDX-License-Identifier: Apache-2.0

package attachtest

import (
	"testing"
	"time"
)

// Eventually waits until the condition holds, at most Patience, and fails the test if it
// never does; what names it. It gives way to others in between: what it waits for happens
// on other goroutines, in other processes, or in the kernel. It is called on the test's own
// goroutine, as holds is.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(Patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never happened: %s", what)
		}
	}
}
