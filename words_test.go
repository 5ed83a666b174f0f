// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

func TestDetachKeys(t *testing.T) {
	for _, tt := range []struct {
		keys, typed, passed string
		detached            bool
	}{
		{"ctrl-p,ctrl-q", "abc", "abc", false},
		{"ctrl-p,ctrl-q", "a\x10\x11b", "a", true},
		{"ctrl-p,ctrl-q", "a\x10b\x11", "a\x10b\x11", false},
		{"ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", true},
		{"ctrl-p,ctrl-q", "\x10", "", false}, // held back until the next key
		{"a,a,b", "aaab", "a", true},
		{"a,b,a,c", "ababac", "ab", true},
		{"ctrl-@", "\x00", "", true},
		{"", "\x10\x11", "\x10\x11", false},
	} {
		keys, err := parseDetachKeys(tt.keys)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []io.Reader{bytes.NewReader([]byte(tt.typed)), iotest.OneByteReader(bytes.NewReader([]byte(tt.typed)))} {
			k := &keyReader{r: r, keys: keys}
			got, err := io.ReadAll(k)
			if err != nil || string(got) != tt.passed || k.detached != tt.detached {
				t.Errorf("%s, typed %q: %q, %v, detached %v; want %q, %v", tt.keys, tt.typed, got, err, k.detached, tt.passed, tt.detached)
			}
		}
	}
	for _, bad := range []string{"ctrl-", "ctrl-1", "ab", ",", "ctrl-p,", "é"} {
		if _, err := parseDetachKeys(bad); !errors.Is(err, errUsage) {
			t.Errorf("parseDetachKeys(%q): %v", bad, err)
		}
	}
}

// FuzzDetachKeys passes on what is typed, but for the keys: what comes out begins what
// went in, with the keys or their beginning behind it.
func FuzzDetachKeys(f *testing.F) {
	f.Add([]byte{0x10, 0x11}, []byte("a\x10\x10\x11b"))
	f.Add([]byte("aab"), []byte("aaab"))
	f.Fuzz(func(t *testing.T, keys, typed []byte) {
		k := &keyReader{r: bytes.NewReader(typed), keys: keys}
		got, err := io.ReadAll(k)
		if err != nil {
			t.Fatal(err)
		}
		want := append(bytes.Clone(got), keys[:k.matched]...)
		if !bytes.HasPrefix(typed, want) || !k.detached && len(want) != len(typed) {
			t.Errorf("keys %q, typed %q: %q, %d held back, detached %v", keys, typed, got, k.matched, k.detached)
		}
		if k.detached != (len(keys) > 0 && bytes.Contains(typed, keys)) {
			t.Errorf("keys %q, typed %q: detached %v", keys, typed, k.detached)
		}
	})
}

func TestUnitWord(t *testing.T) {
	for in, want := range map[string]string{
		"plain-1.0/a:b": "plain-1.0/a:b", "": `""`, "a b": `"a b"`, `q"\`: `"q\"\\"`, "50%": `"50%%"`, "a\nb": `"a\x0ab"`, "é": `"é"`, "$HOME": `"$HOME"`,
	} {
		if got := unitWord(in); got != want {
			t.Errorf("unitWord(%q): %s, want %s", in, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"10m": now.Add(-10 * time.Minute), "2026-11-25T11:00:00Z": now.Add(-time.Hour), "2026-11-25": now.Add(-12 * time.Hour),
		"2026-11-25T11:30:00.5": now.Add(-30*time.Minute + 500*time.Millisecond), "0": time.Unix(0, 0),
	} {
		if got, err := parseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("parseTime(%q): %v, %v, want %v", in, got, err, want)
		}
	}
	if _, err := parseTime("yesterday", now); err == nil {
		t.Error("parseTime took yesterday")
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]int{"TERM": 15, "sigterm": 15, "9": 9, "hup": 1, "64": 64, "SIGRTMIN+3": 37, "rtmax-1": 63, "RTMIN": 34} {
		if got, err := parseSignal(in); err != nil || int(got) != want {
			t.Errorf("parseSignal(%q): %d, %v, want %d", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "0", "65", "-1", "TERMINATE", "RTMIN-1", "RTMAX+1", "RTMIN+x", "RTMIN+"} {
		if _, err := parseSignal(bad); !errors.Is(err, errUsage) {
			t.Errorf("parseSignal(%q): %v", bad, err)
		}
	}
}

func TestAge(t *testing.T) {
	for in, want := range map[time.Duration]string{
		-time.Second: "0 s", 90 * time.Second: "90 s", 2 * time.Minute: "2 minutes", 119 * time.Minute: "119 minutes", 47 * time.Hour: "47 hours", 72 * time.Hour: "3 days",
	} {
		if got := age(in); got != want {
			t.Errorf("age(%v): %s, want %s", in, got, want)
		}
	}
	for in, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 29: "1.5 GiB"} {
		if got := byteSize(in); got != want {
			t.Errorf("byteSize(%d): %s, want %s", in, got, want)
		}
	}
}
