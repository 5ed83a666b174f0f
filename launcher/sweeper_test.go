// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-net/slipway/launcher"
)

// TestSweeper removes files of ids that only the container has, which this process could
// not, and which nobody removes who is not told to.
func TestSweeper(t *testing.T) {
	ids := defaultIDs(t)
	dir := filepath.Join(t.TempDir(), "layer")
	r, w, err := os.Pipe()
	if err := errors.Join(err, os.MkdirAll(filepath.Join(dir, "upper"), 0o755)); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	started := make(chan int, 1)
	c := imageConfig(t, "mkdir /vol/others && touch /vol/others/file && chown -R 8:8 /vol/others && chmod 700 /vol/others && echo written && exec sleep 1000")
	c.Net, c.IDs, c.Stdout, c.Started = launcher.NetNone, ids, w, func(pid int) { started <- pid }
	c.Mounts = append(c.Mounts, launcher.Mount{Kind: launcher.MountBind, Source: filepath.Join(dir, "upper"), Destination: "/vol"})
	ct, err := launcher.New(c)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := ct.Run(t.Context())
		w.Close()
		done <- err
	}()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", <-started))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	var all [2]*launcher.Sweeper
	for i := range all {
		if all[i], err = launcher.NewSweeper(ns, []string{filepath.Join(dir, "upper")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(ct.Kill(), <-done); err != nil {
		t.Error(err)
	}
	if os.Geteuid() != 0 && os.RemoveAll(dir) == nil {
		t.Error("nothing was left that others own")
	}
	all[0].Close()
	if left, err := os.ReadDir(filepath.Join(dir, "upper")); err != nil || len(left) == 0 {
		t.Errorf("one that was not told to removed the files: %v", err)
	}
	if err := all[1].Sweep(); err != nil {
		t.Error(err)
	}
	all[1].Close()
	if left, err := os.ReadDir(filepath.Join(dir, "upper")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
