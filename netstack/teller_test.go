// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"testing"
	"time"
)

func TestTellerBoundsTheLog(t *testing.T) {
	var l teller
	allowed := func(from, to, step time.Duration) (n int) {
		for now := from; now < to; now += step {
			if l.allowed(now) {
				n++
			}
		}
		return n
	}
	if n := allowed(time.Hour, time.Hour+time.Second, 10*time.Millisecond); n != maxLines {
		t.Errorf("%d lines in a row, want %d", n, maxLines)
	}
	if n := allowed(time.Hour+time.Second, 2*time.Hour, time.Second); n > int(time.Hour/lineEvery) || n < 300 {
		t.Errorf("%d lines in an hour, want one every %v", n, lineEvery)
	}
	if n := allowed(10*time.Hour, 10*time.Hour+time.Second, 10*time.Millisecond); n != maxLines {
		t.Errorf("%d lines in a row after a long time, want %d", n, maxLines)
	}
}
