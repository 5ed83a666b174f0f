// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/launcher/state"
)

// store opens an empty store.
func store(t testing.TB) *state.Store {
	t.Helper()
	dir := t.TempDir()
	s, err := state.Open(filepath.Join(dir, "run"), filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// create creates a container.
func create(t testing.TB, s *state.Store, r state.Record) *state.Held {
	t.Helper()
	h, err := s.Create(r)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// empty fails the test if anything is left in the store's directories.
func empty(t testing.TB, s *state.Store) {
	t.Helper()
	for _, dir := range []string{filepath.Dir(s.Dir("x")), filepath.Dir(s.DataDir("x")), filepath.Join(s.RunDir(), "names")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("%s is left in %s", e.Name(), dir)
		}
	}
}

// status loads a container, which must have the status.
func status(t testing.TB, s *state.Store, id string, want state.Status) *state.Container {
	t.Helper()
	c, err := s.Load(id)
	if err != nil {
		t.Fatal(err)
	}
	if c.Status != want {
		t.Errorf("status %s, want %s", c.Status, want)
	}
	return c
}

func TestLife(t *testing.T) {
	for name, keep := range map[string]bool{"thrown away": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			s := store(t)
			h := create(t, s, state.Record{Name: "web", Args: []string{"true"}, Keep: keep, Labels: map[string]string{"a": "b"}})
			id := h.Record().ID
			c := status(t, s, id, state.Created)
			if diff := cmp.Diff(h.Record(), c.Record); diff != "" {
				t.Errorf("record (-held +loaded):\n%s", diff)
			}
			if err := s.Remove(id); !errors.Is(err, state.ErrAlive) {
				t.Errorf("Remove of one that is held: %v", err)
			}
			if err := h.Running(os.Getpid()); err != nil {
				t.Fatal(err)
			}
			if c := status(t, s, id, state.Running); c.Init.PID != os.Getpid() || c.Started.IsZero() {
				t.Errorf("running as %v since %v", c.Init, c.Started)
			}
			if err := h.Finish(state.Exit{Code: 7, Error: strings.Repeat("\x01é", 400)}); err != nil {
				t.Fatal(err)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			if !keep {
				if _, err := s.Load(id); !errors.Is(err, state.ErrNotFound) {
					t.Errorf("Load of one that was thrown away: %v", err)
				}
				empty(t, s)
				return
			}
			if c := status(t, s, id, state.Exited); c.Exit.Code != 7 || c.Exit.Finished.IsZero() {
				t.Errorf("exit %+v, want code 7", c.Exit)
			}
			if err := s.Remove(id); err != nil {
				t.Fatal(err)
			}
			empty(t, s)
		})
	}
}

// TestSettledRecord has a container run to its end in directories in which, but for its logs,
// nothing is made, replaced or removed any more: what its supervisor could change there,
// somebody who has taken that over could, and others go by it.
func TestSettledRecord(t *testing.T) {
	s := store(t)
	h := create(t, s, state.Record{Name: "web", Args: []string{"true"}, Keep: true, Detached: true})
	id := h.Record().ID
	if err := h.Running(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	look := func() (files []os.FileInfo) {
		for _, dir := range []string{s.Dir(id), s.DataDir(id)} {
			for _, name := range []string{".", "state.json", "exit"} {
				info, err := os.Stat(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, info)
			}
		}
		return files
	}
	before := look()
	if err := errors.Join(h.Finish(state.Exit{Code: 7}), h.Close()); err != nil {
		t.Fatal(err)
	}
	for i, after := range look() {
		if !os.SameFile(before[i], after) || after.Name() != "exit" && !after.ModTime().Equal(before[i].ModTime()) {
			t.Errorf("%s (%d) was changed", after.Name(), i)
		}
	}
	if change, _, prune := h.Places(); !cmp.Equal(change, []string{filepath.Join(s.DataDir(id), "logs")}) || len(prune) > 0 {
		t.Errorf("it changes files in %q, and removes directories in %q", change, prune)
	}
	// As after a reboot.
	if err := os.RemoveAll(s.Dir(id)); err != nil {
		t.Fatal(err)
	}
	s.SetBoot("another")
	if c := status(t, s, id, state.Exited); c.Exit.Code != 7 || c.Started.IsZero() {
		t.Errorf("exit %+v, started %v", c.Exit, c.Started)
	}
}

// TestLost has the supervisor killed.
func TestLost(t *testing.T) {
	s := store(t)
	kept := create(t, s, state.Record{Name: "kept", Keep: true})
	thrown := create(t, s, state.Record{Name: "thrown"})
	kept.Drop()
	thrown.Drop()
	all, err := s.List()
	if err != nil || len(all) != 1 {
		t.Fatalf("List: %v, %v, want the one that is kept", all, err)
	}
	if c := all[0]; c.Status != state.Exited || c.Exit.Code != 137 || !strings.Contains(c.Exit.Error, "killed") {
		t.Errorf("%s with %+v, want exited with 137", c.Status, c.Exit)
	}
	if _, err := s.Find("thrown"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("Find of one that was to be thrown away: %v", err)
	}
	// The names are free again.
	for _, name := range []string{"thrown"} {
		if err := create(t, s, state.Record{Name: name}).Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Create(state.Record{Name: "kept"}); !errors.Is(err, state.ErrNameTaken) {
		t.Errorf("the name of one that is kept: %v", err)
	}
}

// TestReboot empties the run directory, as a reboot does, and then does not.
func TestReboot(t *testing.T) {
	for name, emptied := range map[string]bool{"emptied": true, "not emptied": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run, data := filepath.Join(dir, "run"), filepath.Join(dir, "data")
			s, err := state.Open(run, data)
			if err != nil {
				t.Fatal(err)
			}
			ended := create(t, s, state.Record{Name: "ended", Keep: true})
			if err := errors.Join(ended.Finish(state.Exit{Code: 3}), ended.Close()); err != nil {
				t.Fatal(err)
			}
			cut := create(t, s, state.Record{Name: "cut", Keep: true})
			if err := cut.Running(os.Getpid()); err != nil {
				t.Fatal(err)
			}
			thrown := create(t, s, state.Record{Name: "thrown"})
			cut.Drop()
			thrown.Drop()
			if emptied {
				if err := os.RemoveAll(run); err != nil {
					t.Fatal(err)
				}
			}
			if s, err = state.Open(run, data); err != nil {
				t.Fatal(err)
			}
			s.SetBoot("another")
			all, err := s.List()
			if err != nil || len(all) != 2 {
				t.Fatalf("List: %v, %v, want two", all, err)
			}
			for _, c := range all {
				if c.Status != state.Exited {
					t.Errorf("%s is %s", c.Name, c.Status)
				}
			}
			if c, err := s.Find("ended"); err != nil || c.Exit.Code != 3 {
				t.Errorf("ended: %+v, %v, want code 3", c, err)
			}
			if c, err := s.Find("cut"); err != nil || c.Exit.Code != 137 || !strings.Contains(c.Exit.Error, "anew") {
				t.Errorf("cut: %+v, %v, want code 137 and why", c, err)
			}
			if _, err := s.Create(state.Record{Name: "cut"}); !errors.Is(err, state.ErrNameTaken) {
				t.Errorf("the name of one that is kept: %v", err)
			}
			h, err := s.Reopen(cut.Record().ID)
			if err != nil {
				t.Fatal(err)
			}
			status(t, s, cut.Record().ID, state.Created)
			if _, err := s.Reopen(cut.Record().ID); !errors.Is(err, state.ErrAlive) {
				t.Errorf("Reopen of one that is held: %v", err)
			}
			if err := errors.Join(h.Finish(state.Exit{}), h.Close()); err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if err := s.Remove(c.ID); err != nil {
					t.Error(err)
				}
			}
			empty(t, s)
		})
	}
}

// TestNameRace has many claim one name at once: one of them gets it, and the others
// leave nothing.
func TestNameRace(t *testing.T) {
	s := store(t)
	for range 20 {
		const claimants = 16
		var mu sync.Mutex
		var got []*state.Held
		var work sync.WaitGroup
		for range claimants {
			work.Go(func() {
				h, err := s.Create(state.Record{Name: "same"})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					got = append(got, h)
				case !errors.Is(err, state.ErrNameTaken):
					t.Errorf("Create: %v", err)
				}
			})
		}
		work.Wait()
		if len(got) != 1 {
			t.Fatalf("%d have the name", len(got))
		}
		if c, err := s.Find("same"); err != nil || c.ID != got[0].Record().ID {
			t.Errorf("Find: %v, %v, want %s", c, err, got[0].Record().ID)
		}
		if err := got[0].Close(); err != nil {
			t.Fatal(err)
		}
		empty(t, s)
	}
}

func TestFind(t *testing.T) {
	s := store(t)
	a := create(t, s, state.Record{ID: "aa" + strings.Repeat("0", 30), Name: "one"})
	b := create(t, s, state.Record{ID: "ab" + strings.Repeat("0", 30), Name: "aa0"})
	defer a.Close()
	defer b.Close()
	for word, want := range map[string]string{
		"one": "one", "aa": "one", "aa0": "aa0", "ab": "aa0", a.Record().ID: "one", b.Record().ID[:12]: "aa0",
	} {
		if c, err := s.Find(word); err != nil || c.Name != want {
			t.Errorf("Find(%q): %v, %v, want %s", word, c, err, want)
		}
	}
	for word, want := range map[string]error{
		"a": state.ErrAmbiguous, "none": state.ErrNotFound, "": state.ErrNotFound, "..": state.ErrNotFound,
		"../names": state.ErrNotFound, "ff": state.ErrNotFound,
	} {
		if c, err := s.Find(word); !errors.Is(err, want) {
			t.Errorf("Find(%q): %v, %v, want %v", word, c, err, want)
		}
	}
}

// TestUnborn leaves what a supervisor leaves that is killed while it writes a
// container down.
func TestUnborn(t *testing.T) {
	s := store(t)
	dir := s.Dir(".new-" + state.NewID())
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Fatalf("List: %v, %v", all, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a young one is gone: %v", err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dir, old, old); err != nil {
		t.Fatal(err)
	}
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Fatalf("List: %v, %v", all, err)
	}
	empty(t, s)
}

// TestSpoiled has files that are none of ours, or cut off.
func TestSpoiled(t *testing.T) {
	s := store(t)
	h := create(t, s, state.Record{Name: "good"})
	defer h.Close()
	for name, text := range map[string]string{
		"cut off": `{"id":"`, "another's": `{"id":"` + h.Record().ID + `"}`, "empty": "", "list": "[]",
	} {
		t.Run(name, func(t *testing.T) {
			dir := s.Dir(state.NewID())
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			all, err := s.List()
			if err == nil || len(all) != 1 || all[0].Name != "good" {
				t.Errorf("List: %v, %v, want the good one and an error", all, err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{open, link, file} {
		if _, err := state.Open(path, ""); err == nil {
			t.Errorf("Open(%s) took it", path)
		}
	}
	s, err := state.Open(filepath.Join(dir, "run"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(state.Record{Keep: true}); err == nil || !strings.Contains(err.Error(), "HOME") {
		t.Errorf("Create of what cannot be kept: %v", err)
	}
	empty(t, s)
}

// TestWatch waits for the end of a container whose supervisor is this process, and
// of one whose supervisor has gone.
func TestWatch(t *testing.T) {
	s := store(t)
	h := create(t, s, state.Record{})
	c := status(t, s, h.Record().ID, state.Created)
	w, err := s.Watch(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e, err := w.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %+v, %v, want it to be cancelled", e, err)
	}
	w.Close()
	c.Supervisor.Start++ // as if the id were another's by now
	if w, err = s.Watch(c); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := errors.Join(h.Finish(state.Exit{Code: 9}), h.Close()); err != nil {
		t.Fatal(err)
	}
	if e, err := w.Wait(t.Context()); err != nil || e.Code != 9 {
		t.Errorf("Wait: %+v, %v, want code 9 of one that is thrown away", e, err)
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "web-1", "A.b_c", "0"} {
		if err := state.CheckName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "-a", "_a", "a/b", "a b", "é", "a\n", strings.Repeat("a", 129)} {
		if err := state.CheckName(bad); err == nil {
			t.Errorf("CheckName(%q) took it", bad)
		}
	}
}

func TestRunDir(t *testing.T) {
	dir := t.TempDir()
	env := func(v string) func(string) string {
		return func(k string) string { return map[string]string{"XDG_RUNTIME_DIR": v}[k] }
	}
	if got, want := state.RunDir(env(dir)), filepath.Join(dir, "slipway"); got != want {
		t.Errorf("RunDir: %s, want %s", got, want)
	}
	for _, v := range []string{"", "relative", "/no/such"} {
		if got := state.RunDir(env(v)); !strings.HasPrefix(got, "/tmp/slipway-") {
			t.Errorf("RunDir with %q: %s", v, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a) b) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 77 1 1"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := state.ParseStat(b); err != nil && n != 0 {
			t.Errorf("%d and %v", n, err)
		}
	})
}

func TestParseStat(t *testing.T) {
	got, err := state.ParseStat([]byte("1 (a) 9 9) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 77 1 1"))
	if err != nil || got != 77 {
		t.Errorf("%d, %v, want 77", got, err)
	}
}
