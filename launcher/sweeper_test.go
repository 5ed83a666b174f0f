// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
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
	// With cgo, as the race detector needs it, they keep what they have.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno != unix.ENOTSUP {
		if got := waiting(t); !slices.Equal(got, []string{"000000000000000e", "000000000000000e"}) {
			t.Errorf("capabilities of those that wait: %q, want those over files alone", got)
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

// waiting are the capabilities of this process' sweepers, once they wait for the word.
func waiting(t *testing.T) []string {
	t.Helper()
	var got []string
	attachtest.Eventually(t, "the sweepers wait", func() bool {
		got = nil
		all, err := filepath.Glob("/proc/[0-9]*/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range all {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
			b, _ := os.ReadFile(name)
			if strings.HasSuffix(string(line), "\x00sweep\x00") && strings.Contains(string(b), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
				_, caps, _ := strings.Cut(string(b), "CapPrm:\t")
				got = append(got, caps[:16])
			}
		}
		return len(got) > 0 && !slices.ContainsFunc(got, func(caps string) bool { return strings.HasPrefix(caps, "000001") })
	})
	return got
}
