// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// bootPatience bounds a machine that would otherwise never end.
const bootPatience = 5 * time.Minute

// bootSystemd boots testdata/systemd in a User-mode Linux and returns what each try has
// said, by name, with its exit code in the last line.
func bootSystemd(t *testing.T) map[string]string {
	t.Helper()
	bin := binary(t)
	attachtest.NeedTools(t, "linux.uml", "busybox", "dbus-daemon", "systemd-run")
	dir, err := os.MkdirTemp("", "uml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "slipway-cni"), "./cni-plugin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build slipway-cni: %v\n%s", err, out)
	}
	for name, from := range map[string]string{"slipway": bin, "init.sh": "testdata/systemd/init.sh", "tests.sh": "testdata/systemd/tests.sh"} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "linux.uml", "mem=768M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
		"con=null", "con0=null,fd:1", "uml_dir="+dir, "DIR="+dir, "init="+filepath.Join(dir, "init.sh"))
	// Its processes are many, in one group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "== over") {
		t.Fatalf("the machine: %v\n%s", err, out.String())
	}
	return tries(out.String())
}

// tries takes apart what testdata/systemd/tests.sh prints.
func tries(text string) map[string]string {
	all := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		rest, mark := strings.CutPrefix(line, "== ")
		switch {
		case mark && strings.HasPrefix(rest, "exit "):
			all[name] += rest
			name = ""
		case mark:
			name = rest
		case name != "" && line != "":
			all[name] += line + "\n"
		}
	}
	return all
}

// TestSystemd has a real systemd, a real cgroup v2 and a kernel of its own: containers
// with limits get scopes, in which the limits hold, and CNI helpers go on when the
// service of their runtime has been stopped.
func TestSystemd(t *testing.T) {
	got := bootSystemd(t)
	for name, want := range map[string]string{
		"own group":       `^0::/system.slice/tests.service\nexit 0$`,
		"doctor":          `ok +cgroup delegation: systemd gives one`,
		"limits":          `^20\n67108864\n50000 100000\nexit 0$`,
		"forks":           `annot fork(.*\n)*exit [1-9]\d*$`,
		"memory":          `exit 137$`,
		"nothing is left": `^exit 0$`,

		"where it is":           `^0::/system.slice/manager.service/app.slice/slipway-run-\d+.scope/container-\w+\nexit 0$`,
		"exec":                  `^20\n/\nexit 0$`,
		"exec forks":            `annot fork(.*\n)*exit [1-9]\d*$`,
		"stats":                 `"name":"long"(.*\n)*exit 0$`,
		"nothing is left of it": `^exit 0$`,

		"nothing is left of the killed": `^exit 0$`,

		"delegated":  `^20\nexit 0$`,
		"no manager": `limits: .*to mend it: .*\nexit 125$`,

		"rootless":    `^10.0.2.100/24\n0::/system.slice/manager.service/app.slice/slipway-cni-\d+.scope\nexit 0$`,
		"by a broker": `^10.0.2.100/24\n0::/system.slice/manager.service/app.slice/slipway-cni-\d+.scope\nexit 0$`,

		"added auto":          `10.0.2.100/24(.*\n)*exit 0$`,
		"helper auto":         `^0::/system.slice/slipway-cni-\d+.scope\nexit 0$`,
		"after the stop auto": `^eth0 .*\nexit 0$`,
		"del auto":            `^exit 0$`,
		"units after auto":    `^exit 0$`,
		"added off":           `10.0.2.100/24(.*\n)*exit 0$`,
		"helper off":          `^0::/system.slice/runtime-off.service\nexit 0$`,
		"after the stop off":  `exist.*\nexit 1$`,
		"del off":             `^exit 0$`,
		"units after off":     `^exit 0$`,
	} {
		if ok, err := regexp.MatchString(want, got[name]); err != nil || !ok {
			t.Errorf("%s: %v\n%s\nwant %s", name, err, got[name], want)
		}
		if strings.Contains(got[name], "all of them") {
			t.Errorf("%s: no fork was refused", name)
		}
	}
}
