// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newRoot makes a repository with a README and a folder for documents.
func newRoot(t *testing.T, readme string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, filepath.Dir(docsFile)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, readmeFile), []byte(readme), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestUpdateReadme(t *testing.T) {
	dir := t.TempDir()
	r := sampleReport()
	if _, err := r.save(filepath.Join(dir, "new.json")); err != nil {
		t.Fatal(err)
	}
	r.Began, r.CommandLine = r.Began.Add(-time.Hour), []string{"bench", "-out", "older"}
	if _, err := r.save(filepath.Join(dir, "old.json")); err != nil {
		t.Fatal(err)
	}
	l := sampleLaunch()
	if _, err := l.save(filepath.Join(dir, "launch.json")); err != nil {
		t.Fatal(err)
	}
	root := newRoot(t, "# Title\n"+networkReadme.begin+"stale\n"+networkReadme.end+"between\n"+launchReadme.begin+launchReadme.end+"the end\n")
	for range 2 { // the second time changes nothing
		if err := updateReadme(root, dir); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, readmeFile))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "readme.golden", string(got))
		docs, err := os.ReadFile(filepath.Join(root, docsFile))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "docslaunch.golden", string(docs))
	}
}

func TestUpdateReadmeRefuses(t *testing.T) {
	good := "a\n" + networkReadme.begin + networkReadme.end
	tests := []struct {
		name   string
		readme string
		change func(*Report)
		err    string
	}{
		{"no marker", "a\n", func(*Report) {}, "no block"},
		{"no end", "a\n" + networkReadme.begin, func(*Report) {}, "no block"},
		{"interrupted", good, func(r *Report) { r.Interrupted = true }, "interrupted"},
		{"no results", good, func(r *Report) { r.Cells = nil }, "no results"},
		{"no row", good, func(r *Report) { r.Cells = r.Cells[len(r.Cells)-4:] }, "none of the README's rows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := newRoot(t, tt.readme)
			r := sampleReport()
			tt.change(r)
			file, err := r.save(filepath.Join(root, "x.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := updateReadme(root, file); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
			got, err := os.ReadFile(filepath.Join(root, readmeFile))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.readme, string(got)); diff != "" {
				t.Errorf("README was changed (-want +got):\n%s", diff)
			}
		})
	}
	if err := updateReadme("", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no results in") {
		t.Errorf("empty directory: error %v", err)
	}
}
