// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

func TestFrameTooLong(t *testing.T) {
	t.Parallel()
	if err := sandbox.WriteFrame(io.Discard, 1, make([]byte, sandbox.MaxFrame+1)); err == nil {
		t.Error("a frame above the limit was written")
	}
	head := []byte{1, 0xff, 0xff, 0xff, 0xff}
	if _, _, err := sandbox.ReadFrame(bytes.NewReader(head)); err == nil || err == io.ErrUnexpectedEOF {
		t.Errorf("error %v for a frame above the limit, want it refused by its length", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	var good bytes.Buffer
	if err := sandbox.WriteFrame(&good, 1, []byte(`{"Spec":{}}`)); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, payload, err := sandbox.ReadFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := sandbox.WriteFrame(&out, kind, payload); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b[:out.Len()], out.Bytes()); diff != "" {
			t.Errorf("frame written anew (-want +got):\n%s", diff)
		}
	})
}

// fullOrder has something in every field.
func fullOrder() *sandbox.Order {
	return &sandbox.Order{
		Hostname: "box", Domainname: "example", OwnNetwork: true, Mapped: true, Legacy: true,
		Base: "/base", Runtime: []string{"/usr/bin/crun", "run"}, RuntimeEnv: []string{"PATH=/usr/bin"},
		Root:    sandbox.Root{Lowers: []string{"/a", "/b"}, Data: []string{"/d"}, Upper: "/u", Work: "/w", Volatile: true, ReadOnly: true, Fuse: true},
		Mounts:  []sandbox.Mount{{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid"}}, {Destination: "/x"}},
		Devices: []sandbox.Device{{Path: "/dev/null", Major: 1, Minor: 3}, {Path: "/dev/loop0", Block: true, Major: 7}},
		Files:   []sandbox.File{{Path: "/etc/hosts", Content: "127.0.0.1\tlocalhost\n"}, {Path: "/etc/group", Content: "me:x:7:\n", Entry: true}},
		Sysctls: []sandbox.Sysctl{{Name: "net.ipv4.ip_forward", Value: "1"}},
		Masked:  []string{"/proc/keys"}, Readonly: []string{"/proc/sys"},
		Process: sandbox.Process{
			Args: []string{"sh", ""}, Env: []string{"A=b"}, Cwd: "/", User: "u:g", Groups: []string{"g"}, Umask: 0o22,
			Bounding: 1<<63 | 1, Caps: 3, UserCaps: 1, NoNewPrivs: true, Seccomp: []byte("12345678"), OOMScoreAdj: -1000, TimerSlack: 50_000,
			Rlimits:  []sandbox.Rlimit{{Resource: 7, Soft: 1, Hard: 1<<64 - 1}},
			Terminal: true, Rows: 24, Columns: 80, Streams: [3]bool{true, false, true}, Init: true, Files: 3,
		},
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	want := fullOrder()
	encoded := want.Encode()
	got, err := sandbox.Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-sent +received):\n%s", diff)
	}
	for n := range encoded {
		if _, err := sandbox.Decode(encoded[:n]); err == nil {
			t.Fatalf("an order cut off after %d of %d bytes was taken", n, len(encoded))
		}
	}
	if _, err := sandbox.Decode(append(encoded, 0)); err == nil {
		t.Error("an order with something after its end was taken")
	}
}

func FuzzDecodeOrder(f *testing.F) {
	f.Add(fullOrder().Encode())
	f.Add((&sandbox.Order{}).Encode())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := sandbox.Decode(b)
		if err != nil {
			return
		}
		again, err := sandbox.Decode(o.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, again); diff != "" {
			t.Errorf("order written anew (-want +got):\n%s", diff)
		}
	})
}

func TestDecodeFailure(t *testing.T) {
	t.Parallel()
	if f := sandbox.DecodeFailure([]byte("\x7fsh: not found")); f.Code != sandbox.ExitNotFound || f.Text != "sh: not found" {
		t.Errorf("failure %+v", f)
	}
	for _, b := range []string{"", "\x7f"} {
		if f := sandbox.DecodeFailure([]byte(b)); f.Code != sandbox.ExitOurs || f.Text == "" {
			t.Errorf("failure %+v of %q", f, b)
		}
	}
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
			if diff := cmp.Diff(tt.want, sandbox.ParseMountParents(tt.table)); diff != "" {
				t.Errorf("parents (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseMountParents(f *testing.F) {
	f.Add("2 27 0:2 / /a\\040b/c rw - tmpfs x rw\n")
	f.Add("2 27 0:2 / /../.. rw\n")
	f.Fuzz(func(t *testing.T, table string) {
		for p := range sandbox.ParseMountParents(table) {
			if p == "" || p[0] != '/' {
				t.Errorf("parent %q is no absolute path", p)
			}
		}
	})
}
