// SPDX-License-Identifier: Apache-2.0

package scope_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	godbus "github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher/scope"
)

// descriptors returns how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestStart(t *testing.T) {
	f := &fake{result: "done"}
	f.serve(t)
	m := scope.Manager{Socket: f.socket, UID: os.Geteuid()}
	err := m.Start(t.Context(), scope.Unit{Name: "slipway-test", Description: "a test", PIDs: []int{7, 8}, Delegate: true})
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.units) != 1 {
		t.Fatalf("%d units were asked for, want 1", len(f.units))
	}
	body := f.units[0].Body
	got := map[string]any{}
	for _, p := range body[2].([][]any) {
		got[p[0].(string)] = p[1].(godbus.Variant).Value()
	}
	want := map[string]any{"Description": "a test", "PIDs": []uint32{7, 8}, "CollectMode": "inactive-or-failed", "Delegate": true}
	if diff := cmp.Diff(want, got); diff != "" || body[0] != "slipway-test.scope" || body[1] != "fail" {
		t.Errorf("asked for %v, %v; properties (-want +got):\n%s", body[0], body[1], diff)
	}
}

// TestErrors has a manager that refuses, fails, hangs or is none. Each is an error, in
// time, and leaves nothing open.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		fake *fake
		want string
		late bool
	}{
		{"it refuses", &fake{refuse: "Unit exists already."}, "Unit exists already.", false},
		{"its job fails", &fake{result: "failed"}, `"failed"`, false},
		{"it is silent", &fake{mute: "auth"}, "", true},
		{"it does not answer the call", &fake{mute: "call"}, "", true},
		{"its job does not end", &fake{mute: "job"}, "does not end", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.fake.serve(t)
			ctx := t.Context()
			if tt.late {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			err := scope.Manager{Socket: tt.fake.socket, UID: os.Geteuid()}.Start(ctx, scope.Unit{Name: "u", PIDs: []int{1}})
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, context.DeadlineExceeded) != tt.late {
				t.Errorf("error %v, want one that says %q, late: %v", err, tt.want, tt.late)
			}
		})
	}
}

// TestNothingIsLeft counts descriptors when the manager has hung and when it has not.
func TestNothingIsLeft(t *testing.T) {
	for _, mute := range []string{"", "auth", "call", "job"} {
		t.Run("mute "+mute, func(t *testing.T) {
			f := &fake{result: "done", mute: mute}
			f.serve(t)
			before := descriptors(t)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_ = scope.Manager{Socket: f.socket, UID: os.Geteuid()}.Start(ctx, scope.Unit{Name: "u", PIDs: []int{1}})
			f.mu.Lock()
			for _, c := range f.conns {
				c.Close()
			}
			f.mu.Unlock()
			for end := time.Now().Add(10 * time.Second); descriptors(t) > before; {
				if time.Now().After(end) {
					t.Fatalf("%d descriptors are open, %d were before", descriptors(t), before)
				}
			}
		})
	}
}

// TestGone has a socket that nobody listens at, as a systemd leaves that has ended.
func TestGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := (scope.Manager{Socket: path}).Start(t.Context(), scope.Unit{Name: "u"}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v, want that the connection is refused", err)
	}
}

// TestOwn finds a socket below XDG_RUNTIME_DIR, and takes nothing else for one.
func TestOwn(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root belongs to the system's manager, whatever XDG_RUNTIME_DIR says")
	}
	dir := t.TempDir()
	env := func(string) string { return dir }
	if err := os.Mkdir(filepath.Join(dir, "systemd"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "systemd", "private")
	usual, there := scope.Own(func(string) string { return "relative" })
	if there && strings.HasPrefix(usual.Socket, "relative") {
		t.Errorf("a relative directory gave %v", usual)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if m, _ := scope.Own(env); m.Socket == path {
		t.Error("a plain file was taken for a socket")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if m, ok := scope.Own(env); !ok || m != (scope.Manager{Socket: path, UID: os.Geteuid()}) {
		t.Errorf("Own: %v, %v, want %s", m, ok, path)
	}
}
