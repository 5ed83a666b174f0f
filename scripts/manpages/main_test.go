// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// TestPages holds the pages to the help texts.
func TestPages(t *testing.T) {
	pages, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) == 0 {
		t.Fatal("there are no pages")
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(root, pageDir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what the help text says; run make man (-want +got):\n%s", name, diff)
		}
	}
}

// TestIndex has slipway(1) tell of every command, and of its page.
func TestIndex(t *testing.T) {
	help, err := os.ReadFile(filepath.Join(root, helpDir, "help.txt"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(root, pageDir, "slipway.1"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range summaries(string(help)) {
		page := ".Xr slipway-" + name + " 1"
		_, err := os.Stat(filepath.Join(root, pageDir, "slipway-"+name+".1"))
		switch {
		case !strings.Contains(string(index), ".It Cm "+name):
			t.Errorf("slipway.1 does not tell of %s", name)
		case err == nil && strings.Count(string(index), page) < 2:
			t.Errorf("slipway.1 does not refer to slipway-%s.1 in the text and at its end", name)
		}
	}
}

func TestParse(t *testing.T) {
	p, err := parse("Usage: slipway x [flags] A | x B\n\nDoes. More.\n\nFlags:\n  -t, --time SECONDS   SECONDS to wait\n      --all[=true|false]   all\n")
	if err != nil {
		t.Fatal(err)
	}
	want := page{
		synopsis: []string{"x [flags] A", "x B"},
		about:    []string{"Does. More."},
		flags:    []flag{{"-t, --time", "SECONDS", "SECONDS to wait"}, {"--all", "", "all"}},
	}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(page{}, flag{})); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "Usage: slipway x\n", "What\n\nFlags:\n"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
