// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScreenOf(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tests := []struct {
		name string
		env  map[string]string
		want screen
	}{
		{"nothing known", nil, screen{width: defaultWidth}},
		{"columns", map[string]string{"COLUMNS": "90"}, screen{width: 90}},
		{"few columns", map[string]string{"COLUMNS": "9"}, screen{width: minWidth}},
		{"many columns", map[string]string{"COLUMNS": "9000"}, screen{width: maxWidth}},
		{"no number", map[string]string{"COLUMNS": "wide"}, screen{width: defaultWidth}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			getenv := func(k string) string { return tt.env[k] }
			if got := screenOf(&bytes.Buffer{}, getenv); got != tt.want {
				t.Errorf("of a buffer: %+v, want %+v", got, tt.want)
			}
			if got := screenOf(file, getenv); got != tt.want {
				t.Errorf("of a file: %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestScreenOfTerminal opens a terminal of its own (pty(7)).
func TestScreenOfTerminal(t *testing.T) {
	tty := openTerminal(t, 90)
	tests := []struct {
		name string
		env  map[string]string
		want screen
	}{
		{"colours", map[string]string{"TERM": "xterm", "COLUMNS": "70"}, screen{width: 90, color: true, tty: true}},
		{"NO_COLOR", map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, screen{width: 90, tty: true}},
		{"dumb", map[string]string{"TERM": "dumb"}, screen{width: 90, tty: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := screenOf(tty, func(k string) string { return tt.env[k] }); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestBreakLines(t *testing.T) {
	tests := []struct {
		name, in string
		width    int
		want     []string
	}{
		{"empty", "", 5, []string{""}},
		{"fits", "a bc", 5, []string{"a bc"}},
		{"breaks", "a bc  def\ng", 5, []string{"a bc", "def g"}},
		{"long word", "ab cdefghijk l", 4, []string{"ab", "cdef", "ghij", "k l"}},
		{"at a mark", "gvisor-tap-vsock", 14, []string{"gvisor-tap-", "vsock"}},
		{"not by bytes", "äöü ß", 5, []string{"äöü ß"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, breakLines(tt.in, tt.width)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVisible(t *testing.T) {
	in := "a\x1b[2J\u202eb\tc\u00a0d\xff"
	if got, want := visible(in), "a\ufffd[2J\ufffdb c d\ufffd"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if strings.ContainsRune(visible("\u2066"), '\u2066') {
		t.Error("text that turns the direction is let through")
	}
}
