// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	linkForm    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingForm = regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchorDrops = regexp.MustCompile("[^a-z0-9 _-]")
)

// TestLinks has the links of README and guides lead to what is there.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, page := range append(pages, "README.md") {
		for _, m := range linkForm.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s: link to %s: there is no such heading", page, m[1])
			}
		}
	}
	if links == 0 {
		t.Error("there are no links")
	}
}

// anchors returns those that the headings of a page have where it is shown.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, h := range headingForm.FindAllStringSubmatch(text, -1) {
		plain := anchorDrops.ReplaceAllString(strings.ToLower(h[1]), "")
		all[strings.ReplaceAll(plain, " ", "-")] = true
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
