// SPDX-License-Identifier: Apache-2.0

package portapi

import (
	"net/url"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzRemoval(f *testing.F) {
	for _, s := range []string{"", "cut=true", "id=1&id=2&cut=0", "rule=8080%3A80&rule=[::1]:1:1/udp", "id=-1", "all", "%zz", "id=1;cut", "cut=1&cut=no"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, raw string, inPath bool) {
		d, err := parseRemoval(raw, inPath)
		if err != nil {
			return
		}
		if named := len(d.ids) + len(d.rules); inPath == (named > 0) {
			t.Fatalf("%q names %d ports", raw, named)
		}
		query := url.Values{"cut": {strconv.FormatBool(d.cut)}}
		for _, id := range d.ids {
			if id < 1 {
				t.Errorf("%q has the ID %d", raw, id)
			}
			query.Add("id", strconv.Itoa(id))
		}
		for _, r := range d.rules {
			query.Add("rule", r)
		}
		again, err := parseRemoval(query.Encode(), inPath)
		if err != nil {
			t.Fatalf("%q written as %q: %v", raw, query.Encode(), err)
		}
		if diff := cmp.Diff(d, again, cmp.AllowUnexported(removal{})); diff != "" {
			t.Errorf("%q written as %q (-first +again):\n%s", raw, query.Encode(), diff)
		}
	})
}
