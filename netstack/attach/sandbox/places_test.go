// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestPlaces finds files behind links of all kinds.
func TestPlaces(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"etc", "run/resolve", "nix/store"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{
		"etc/relative":   "../run/resolve/conf",
		"etc/absolute":   dir + "/run/resolve/conf",
		"etc/chain":      "static/conf",
		"etc/static":     dir + "/nix/store",
		"nix/store/conf": "./../../etc//relative",
		"etc/loop":       "loop2",
		"etc/loop2":      "loop",
	}
	for at, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, at)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		policy Policy
		want   []place
		links  []string // of those above
		err    error
	}{
		{name: "nothing"},
		{name: "plain, and not there", policy: Policy{Read: []string{"etc/conf"}}, want: []place{{path: "etc", use: useRead}}},
		{name: "relative", policy: Policy{Read: []string{"etc/relative"}}, want: []place{{path: "run/resolve", use: useRead}}, links: []string{"etc/relative"}},
		{name: "absolute", policy: Policy{Read: []string{"etc/absolute"}}, want: []place{{path: "run/resolve", use: useRead}}, links: []string{"etc/absolute"}},
		{
			name: "chain", policy: Policy{Read: []string{"etc/chain"}}, want: []place{{path: "run/resolve", use: useRead}},
			links: []string{"etc/chain", "etc/static", "nix/store/conf", "etc/relative"},
		},
		{name: "a link to remove", policy: Policy{Remove: []string{"etc/relative"}}, want: []place{{path: "etc", use: useRemove}}},
		{
			name:   "two uses of a place",
			policy: Policy{Read: []string{"etc/relative"}, Look: []string{"run/resolve/other"}, Connect: []string{"nix/socket"}},
			want:   []place{{path: "nix", use: useConnect}, {path: "run/resolve", use: useRead | useLook}}, links: []string{"etc/relative"},
		},
		{name: "a service that is not there", policy: Policy{Connect: []string{"nowhere/socket"}}},
		{name: "loop", policy: Policy{Read: []string{"etc/loop"}}, err: unix.ELOOP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.policy
			for _, list := range []*[]string{&p.Read, &p.Remove, &p.Look, &p.Connect} {
				for i, path := range *list {
					(*list)[i] = dir + "/" + path
				}
			}
			got, err := newPlaces(p)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			want := places{links: map[string]string{}}
			for _, at := range tt.want {
				want.all = append(want.all, place{path: filepath.Join(dir, at.path), use: at.use})
			}
			for _, at := range tt.links {
				want.links[filepath.Join(dir, at)] = links[at]
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(places{}, place{})); diff != "" {
				t.Errorf("places (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := newPlaces(Policy{Read: []string{"etc/resolv.conf"}}); err == nil {
		t.Error("a relative path is no error")
	}
}

// TestAssemble has the program jump to where it decides, by running it on what the
// kernel would: see TestFilter. Here is only what cannot be installed.
func TestAssemble(t *testing.T) {
	long := call{number: 1, otherwise: kill}
	for range 70 {
		long.cases = append(long.cases, clause{[]test{is(0, 1)}, allow})
	}
	if _, err := assemble(1, []call{long}); err == nil {
		t.Error("a call with too many cases is no error")
	}
	seen := map[uintptr]bool{}
	for _, c := range (needs{unix: true, remove: true, diag: true}).calls() {
		if seen[c.number] {
			t.Errorf("call %d is twice in the list, and the first one counts", c.number)
		}
		seen[c.number] = true
	}
}
