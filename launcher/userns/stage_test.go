// SPDX-License-Identifier: Apache-2.0

package userns_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

func TestStage(t *testing.T) {
	c := caller(t)
	keep, err := c.KeepID(1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	nomap, err := c.NoMap()
	if err != nil {
		t.Fatal(err)
	}
	auto, err := c.Auto(userns.Slice{Offset: 2048, Size: 1024})
	if err != nil {
		t.Fatal(err)
	}
	def, err := c.Default()
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]userns.Mapping{"default": def, "single": c.Single(), "keep": keep, "nomap": nomap, "auto": auto} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SECRET", "x")
			var out, stderr bytes.Buffer
			cmd := userns.Command(t.Context(), m, stageTell, "a", "b c")
			cmd.Stdout, cmd.Stderr = &out, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %s", err, stderr.String())
			}
			want := `uid 0 gid 0 chown true words ["a" "b c"] environ ["GODEBUG=containermaxprocs=0"]`
			for _, r := range m.UIDs {
				want += fmt.Sprintf(" %d %d %d", r.Inside, r.Outside, r.Size)
			}
			if got := strings.Join(strings.Fields(out.String()), " "); got != want {
				t.Errorf("the stage says\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestStageOwns lets a stage give a file to ids that only the mapping has.
func TestStageOwns(t *testing.T) {
	m, err := caller(t).Default()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	cmd := userns.Command(t.Context(), m, stageOwn, file, "33", "65534")
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := m.HostUID(33)
	gid, _ := m.HostGID(65534)
	if got := st.Sys().(*syscall.Stat_t); got.Uid != uid || got.Gid != gid {
		t.Errorf("the file belongs to %d:%d, want %d:%d", got.Uid, got.Gid, uid, gid)
	}
}

// TestStageRefused gives a stage ids that are not the caller's: nothing may be left.
func TestStageRefused(t *testing.T) {
	c := caller(t)
	if c.UID == 0 {
		t.Skip("root may map any ids")
	}
	m := userns.Mapping{UIDs: ranges{{0, 0, 1}, {1, 100000, 10}}, GIDs: ranges{{0, 0, 1}, {1, 100000, 10}}}
	cmd := userns.Command(t.Context(), m, stageTell)
	err := cmd.Start()
	if err == nil {
		t.Fatal("host root was mapped")
	}
	if !strings.Contains(err.Error(), "newuidmap") || !strings.Contains(err.Error(), "to mend it:") {
		t.Errorf("error %v, want one that says who refused and what to do", err)
	}
	if _, err := unix.Wait4(cmd.Process.Pid, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("waiting for the stage: %v, want that it is no child any more", err)
	}
}
