// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"strings"
	"testing"

	"github.com/slipway-net/slipway/tap"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		name, arg string
		want      tap.Target
		str       string
		says      string
	}{
		{name: "process", arg: "1234", want: tap.Target{PID: 1234}, str: "process 1234"},
		{name: "leading zeros", arg: "0012", want: tap.Target{PID: 12}, str: "process 12"},
		{name: "path", arg: "/run/netns/a b", want: tap.Target{NetNS: "/run/netns/a b"}, str: "/run/netns/a b"},
		{name: "relative path", arg: "./12", want: tap.Target{NetNS: "./12"}, str: "./12"},
		{name: "path in a directory", arg: "a/b", want: tap.Target{NetNS: "a/b"}, str: "a/b"},
		{name: "empty", arg: "", says: "want a process id, or the path"},
		{name: "word", arg: "tap0", says: "want a process id, or the path"},
		{name: "hexadecimal", arg: "0x10", says: "want a process id, or the path"},
		{name: "plus", arg: "+5", says: "want a process id, or the path"},
		{name: "too large", arg: "4294967297", says: "want a process id, or the path"},
		{name: "zero", arg: "0", says: "greater than zero"},
		{name: "negative", arg: "-5", says: "greater than zero"},
		{name: "zero byte", arg: "/a\x00b", says: "no zero byte"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tap.ParseTarget(tt.arg)
			switch {
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %+v and %v, want an error that says %q", got, err, tt.says)
			case tt.says == "" && (err != nil || got != tt.want || got.String() != tt.str):
				t.Errorf("got %+v, %q and %v, want %+v and %q", got, got, err, tt.want, tt.str)
			}
		})
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"1", "/proc/1/ns/net", "./x", "-1", "99999999999999999999", "\x00/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		got, err := tap.ParseTarget(arg)
		if err == nil && (got.PID > 0) == (got.NetNS != "") {
			t.Errorf("%q became %+v, want a process id or a path", arg, got)
		}
	})
}
