// SPDX-License-Identifier: Apache-2.0

package userns_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// Stages of the test binary.
const (
	stageTell = "tell" // print ids, capabilities and words
	stageOwn  = "own"  // make a file and give it to the ids that follow
)

func TestMain(m *testing.M) {
	if userns.IsStage(os.Args) {
		os.Exit(stage())
	}
	os.Exit(m.Run())
}

func stage() int {
	name, words, err := userns.Stage(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch name {
	case stageTell:
		uidMap, _ := os.ReadFile("/proc/self/uid_map")
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			return 1
		}
		fmt.Printf("uid %d gid %d chown %t words %q environ %q\n%s", os.Getuid(), os.Getgid(), data[0].Effective&(1<<unix.CAP_CHOWN) != 0, words, os.Environ(), uidMap)
	case stageOwn:
		var uid, gid int
		if _, err := fmt.Sscan(words[1]+" "+words[2], &uid, &gid); err != nil {
			return 1
		}
		if err := os.WriteFile(words[0], nil, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := os.Chown(words[0], uid, gid); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

// caller is the calling user with subordinate ids; without those the test is skipped,
// but for CI, where test set-up gives them.
func caller(t *testing.T) userns.Caller {
	t.Helper()
	if testing.Short() {
		t.Skip("short: makes namespaces")
	}
	c, err := userns.Load()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Default(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return c
}
