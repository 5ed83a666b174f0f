// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher"
)

func TestFrameTooLong(t *testing.T) {
	t.Parallel()
	if err := launcher.WriteFrame(io.Discard, 1, make([]byte, launcher.MaxFrame+1)); err == nil {
		t.Error("a frame above the limit was written")
	}
	head := []byte{1, 0xff, 0xff, 0xff, 0xff}
	if _, _, err := launcher.ReadFrame(bytes.NewReader(head)); err == nil || err == io.ErrUnexpectedEOF {
		t.Errorf("error %v for a frame above the limit, want it refused by its length", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	var good bytes.Buffer
	if err := launcher.WriteFrame(&good, 1, []byte(`{"Spec":{}}`)); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, payload, err := launcher.ReadFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := launcher.WriteFrame(&out, kind, payload); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b[:out.Len()], out.Bytes()); diff != "" {
			t.Errorf("frame written anew (-want +got):\n%s", diff)
		}
	})
}

func FuzzDecodeOrder(f *testing.F) {
	f.Add([]byte(`{"Spec":{"process":{"args":["sh"],"capabilities":{}},"linux":{}}}`))
	f.Add([]byte(`{"Spec":{"process":{"args":[]}}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		args, err := launcher.DecodeOrder(b)
		if err == nil && len(args) == 0 {
			t.Error("a bundle without a command was taken")
		}
	})
}

func TestParseMountParents(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, table string
		want        map[string]bool
	}{
		{name: "root alone", table: "27 1 254:0 / / rw - ext4 /dev/vda rw\n", want: map[string]bool{}},
		{name: "nested", table: "1 27 0:1 / /proc rw - proc proc rw\n2 27 0:2 / /a/b/c rw - tmpfs x rw\n", want: map[string]bool{"/": true, "/a": true, "/a/b": true}},
		{name: "escaped", table: `2 27 0:2 / /a\040b/c rw - tmpfs x rw`, want: map[string]bool{"/": true, "/a b": true}},
		{name: "not an escape", table: `2 27 0:2 / /a\09/\40/c rw - tmpfs x rw`, want: map[string]bool{"/": true, `/a\09`: true, `/a\09/\40`: true}},
		{name: "short line", table: "2 27 0:2 /\n\n", want: map[string]bool{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, launcher.ParseMountParents(tt.table)); diff != "" {
				t.Errorf("parents (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseMountParents(f *testing.F) {
	f.Add("2 27 0:2 / /a\\040b/c rw - tmpfs x rw\n")
	f.Add("2 27 0:2 / /../.. rw\n")
	f.Fuzz(func(t *testing.T, table string) {
		for p := range launcher.ParseMountParents(table) {
			if p == "" || p[0] != '/' {
				t.Errorf("parent %q is no absolute path", p)
			}
		}
	})
}

func TestSubIDs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		want       int
	}{
		{"none", "other:100000:65536\n", 0},
		{"by name", "me:100000:65536\n", 65536},
		{"by number and name", "1000:100000:10\nme:200000:5\n", 15},
		{"malformed", "me:100000\nme:1:x\nme:1:-1\n# me:1:2:3\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := launcher.SubIDs([]byte(tt.file), "me", "1000"); got != tt.want {
				t.Errorf("%d ids, want %d", got, tt.want)
			}
		})
	}
}

func FuzzSubIDs(f *testing.F) {
	f.Add([]byte("me:100000:65536\n1000:1:1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := launcher.SubIDs(b, "me", "1000"); got < 0 {
			t.Errorf("%d ids", got)
		}
	})
}
