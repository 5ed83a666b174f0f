// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestPodmanStorage runs images of a real Podman's storage, by both of its drivers, and
// leaves that as it is.
func TestPodmanStorage(t *testing.T) {
	u := newImageUser(t)
	attachtest.NeedTools(t, "podman", "crun", "conmon")
	top := tarOf(t, map[string][]byte{"etc/": nil, "etc/.wh.shadow": nil, "home/": nil, "home/.wh..wh..opq": nil, "home/new": []byte("new\n")})
	archive := writeImage(t, u.dir, "two", boxTar(t), top)
	env := u.env
	defer func() { u.env = env }()
	for _, driver := range []string{"overlay", "vfs"} {
		u.env = append(env[:len(env):len(env)], "STORAGE_DRIVER="+driver, "PODMAN_IGNORE_CGROUPSV1_WARNING=1")
		dir := filepath.Join(u.dir, driver)
		podman := func(args ...string) result {
			return u.run(t, append([]string{"podman", "--root", dir, "--runroot", dir + ".run"}, args...)...)
		}
		if got := podman("load", "-q", "-i", archive); got.code != 0 {
			t.Fatalf("podman load: %+v", got)
		}
		place := "containers-storage:[" + driver + "@" + dir + "]"
		before := u.Host.Exec(t, "sh", "-c", "find "+dir+" -newermt @0 -printf '%p %T@ %s\n' | sort | grep -v /libpod/")
		u.says(t, "new secret? no 8:8", "run", "--net=none", place+"localhost/two", "sh", "-c", "echo $(cat /home/new) secret? $(cat /etc/shadow 2>/dev/null || echo no) $(busybox chown 8:8 /tmp; stat -c %u:%g /tmp)")
		after := u.Host.Exec(t, "sh", "-c", "find "+dir+" -newermt @0 -printf '%p %T@ %s\n' | sort | grep -v /libpod/")
		if before != after {
			t.Errorf("Podman's storage was changed: %s\n%s", before, after)
		}
		id := strings.TrimSpace(podman("images", "-q", "two").stdout)
		u.says(t, "new", "run", "--net=none", place+"@"+id, "cat", "/home/new")
		if got := u.slipway(t, "run", place+"none"); got.code != 125 || !strings.Contains(got.stderr, "not found") || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("an image that is not there: %+v", got)
		}
		// A file that is not what it was is found out, and nothing stays of the layer.
		u.slipway(t, "rmi", "-a")
		damaged := u.Host.Exec(t, "sh", "-c", "find "+dir+" -path '*home/new' | head -1 | xargs -I F sh -c 'echo bad >F'; echo done")
		if got := u.slipway(t, "run", "--net=none", place+"localhost/two"); got.code != 125 || !strings.Contains(got.stderr, "checksum") {
			t.Errorf("a damaged layer (%s): %+v", damaged, got)
		}
		u.slipway(t, "rmi", "-a")
		if got := podman("rmi", "-af"); got.code != 0 {
			t.Errorf("podman rmi: %+v", got)
		}
		if err := os.RemoveAll(dir + ".run"); err != nil {
			t.Log(err) // the machine removes it
		}
	}
}
