// SPDX-License-Identifier: Apache-2.0

package netstack

import "time"

const (
	// maxLines is how many lines the log gets in a row, and lineEvery after how long
	// it may have one more.
	maxLines  = 20
	lineEvery = 10 * time.Second
)

// A teller bounds what is logged of events that the container can cause. The zero
// teller is ready.
type teller struct {
	lines int           // lately
	since time.Duration // when lines was last counted down
}

// allowed reports whether the log may have one more line, and counts it.
func (t *teller) allowed(now time.Duration) bool {
	for ; t.lines > 0 && now-t.since >= lineEvery; t.since += lineEvery {
		t.lines--
	}
	if t.lines == 0 {
		t.since = now
	}
	if t.lines == maxLines {
		return false
	}
	t.lines++
	return true
}
