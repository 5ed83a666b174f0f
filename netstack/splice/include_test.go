// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestIncludeIsBounded takes out as many tuples as wait to be taken out, of which
// none is there, or all but one are. Its caller is the loop, which must not stand
// still: a transaction for each tuple takes minutes.
func TestIncludeIsBounded(t *testing.T) {
	const ended = 4096
	for _, tt := range []struct {
		name         string
		there, taken []Tuple
	}{
		{"none is there", nil, tuples(1, ended)},
		{"the last is not there", tuples(1, ended), append(tuples(1, ended), tuples(9000, 1)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, in := opened(t)
			h, err := New(testTap, in, UntilClose)
			must(t, err)
			must(t, h.Install(tt.there))
			done := make(chan error, 1)
			go func() { done <- h.Include(tt.taken) }()
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(attachtest.Patience):
				t.Errorf("Include has not ended in %v", attachtest.Patience)
				must(t, <-done)
			}
			if got := listed(t, c); got != 0 {
				t.Errorf("%d tuples are left", got)
			}
			must(t, h.Close())
		})
	}
}
