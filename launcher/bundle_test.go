// SPDX-License-Identifier: Apache-2.0

package launcher_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-net/slipway/launcher"
)

// runtimes are the OCI runtimes that there are on this machine, crun at least.
func runtimes(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, name := range []string{"crun", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			all = append(all, path)
		}
	}
	if len(all) == 0 {
		t.Fatal("neither crun nor runc is installed: scripts/test-setup does that")
	}
	return all
}

// TestRuntime has OCI runtimes run containers, which are to be what ours are.
func TestRuntime(t *testing.T) {
	const script = `id -u; id -G; echo $HOME; hostname; cat /etc/hostname; grep -E '^(CapEff|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\t' | tr '\n' ' '
		tr -s ' ' < /proc/self/uid_map | head -1; ls -d /vol/file; touch /data/new && echo x > /dev/null; wc -c < /proc/keys; pwd; exit 7`
	ids := defaultIDs(t)
	for _, runtime := range runtimes(t) {
		t.Run(filepath.Base(runtime), func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("XDG_RUNTIME_DIR", dir)
			volume := t.TempDir()
			write(t, filepath.Join(volume, "file"), "")
			c := imageConfig(t, script)
			c.Runtime, c.IDs, c.User, c.Hostname, c.Workdir = runtime, ids, "web", "box", "/data"
			if err := os.Chmod(filepath.Join(c.Root.Lowers[0], "data"), 0o777); err != nil {
				t.Fatal(err)
			}
			c.Mounts = append(c.Mounts, launcher.Mount{Kind: launcher.MountBind, Source: volume, Destination: "/vol"})
			o := run(t, c)
			want := "33\n33 44\n/srv\nbox\nbox\nCapEff:0000000000000000 CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:2  0 " +
				fmt.Sprint(ids.UIDs[0].Outside) + " 1\n/vol/file\n0\n/data\n"
			if diff := cmp.Diff(want, o.stdout); diff != "" || o.code != 7 || o.err != nil {
				t.Errorf("code %d, error %v, stderr %q, output (-want +got):\n%s", o.code, o.err, o.stderr, diff)
			}
			if _, err := os.Stat(filepath.Join(c.Root.Lowers[0], "data/new")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the layer was written to: %v", err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left in the runtime directory: %v (%v)", left, err)
			}
		})
	}
}

func TestRuntimeRefuses(t *testing.T) {
	needNamespaces(t)
	c := sh("true")
	c.Net, c.Runtime = launcher.NetNone, "crun"
	if _, err := launcher.New(c); !errors.Is(err, launcher.ErrUsage) {
		t.Errorf("on the host's root: error %v, want ErrUsage", err)
	}
	c = imageConfig(t, "true")
	c.Runtime = "no-such-runtime"
	if o := run(t, c); o.code != 125 || !errors.Is(o.err, launcher.ErrUsage) || !strings.Contains(o.err.Error(), "no-such-runtime") {
		t.Errorf("a runtime that is not there: code %d, error %v", o.code, o.err)
	}
	c = imageConfig(t, "true")
	c.Runtime, c.User = "crun", "nobody-knows"
	if o := run(t, c); o.code != 125 || o.err == nil || !strings.Contains(o.err.Error(), `user "nobody-knows"`) {
		t.Errorf("a user that is not there: code %d, error %v", o.code, o.err)
	}
}
