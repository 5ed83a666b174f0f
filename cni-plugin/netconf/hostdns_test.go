// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

func TestReadSearch(t *testing.T) {
	long := strings.Repeat("a", maxDomain)
	for name, tt := range map[string]struct {
		text string
		want types.DNS
	}{
		"empty":             {"", types.DNS{}},
		"servers only":      {"# search x\nnameserver 192.0.2.1\n;domain y\nsearch\n", types.DNS{}},
		"usual":             {"search corp.example  lab.example\noptions edns0 ndots:2\n", types.DNS{Search: []string{"corp.example", "lab.example"}, Options: []string{"edns0", "ndots:2"}}},
		"the last counts":   {"search a.example\ndomain b.example c.example\n", types.DNS{Search: []string{"b.example"}}},
		"options add up":    {"options rotate\noptions rotate timeout:1\n", types.DNS{Options: []string{"rotate", "timeout:1"}}},
		"nowhere":           {"search .\n", types.DNS{}},
		"twice":             {"search a. a.\n", types.DNS{Search: []string{"a."}}},
		"no domains":        {"search a..b .c é " + long + "a x\x00y ok " + long + "\n", types.DNS{Search: []string{"ok", long}}},
		"no options":        {"options a=b ndots:1;\n", types.DNS{}},
		"without a newline": {"search a", types.DNS{Search: []string{"a"}}},
	} {
		if diff := cmp.Diff(tt.want, readSearch(strings.NewReader(tt.text))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	many := readSearch(strings.NewReader("search " + strings.Repeat("a b c d e f g ", 1) + numbered(100)))
	if len(many.Search) != maxWords {
		t.Errorf("%d domains were taken, want %d", len(many.Search), maxWords)
	}
}

// numbered returns n words.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("x", i+1) + " ")
	}
	return b.String()
}

// TestHostDNSWithout keeps the host's options from overruling what was asked for.
func TestHostDNSWithout(t *testing.T) {
	c := &Conf{}
	c.DNS.Options = []string{"ndots:5"}
	got := c.without(types.DNS{Search: []string{"a"}, Options: []string{"ndots:1", "edns0"}})
	if diff := cmp.Diff(types.DNS{Search: []string{"a"}, Options: []string{"edns0"}}, got); diff != "" {
		t.Errorf("without (-want +got):\n%s", diff)
	}
}

// FuzzReadSearch checks that no word of it breaks the file it ends up in.
func FuzzReadSearch(f *testing.F) {
	f.Add("search corp.example lab.example\ndomain x\noptions ndots:2\n")
	f.Fuzz(func(t *testing.T, text string) {
		d := readSearch(strings.NewReader(text))
		for _, w := range append(d.Search, d.Options...) {
			if w == "" || w == "." || len(w) > maxDomain+1 || strings.ContainsAny(w, " \t\r\n\x00#;") {
				t.Errorf("word %q", w)
			}
		}
		if len(d.Search) > maxWords || len(d.Options) > maxWords {
			t.Errorf("%d domains, %d options", len(d.Search), len(d.Options))
		}
	})
}
