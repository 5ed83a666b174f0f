// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// restrictions are what of the status of a process tells how confined it is.
func restrictions(t testing.TB, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "CapPrm", "NoNewPrivs", "Seccomp":
			out = append(out, name+" "+strings.TrimSpace(value))
		}
	}
	return strings.Join(out, " ")
}

// confinedWhole is a process with all restrictions that its status shows.
const confinedWhole = "CapPrm 0000000000000000 NoNewPrivs 1 Seccomp 2"

// TestConfined has supervisors confined as soon as their containers send something, or
// after a while, and they do all that is left for them to do.
func TestConfined(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	for _, tt := range []struct {
		name, want string
		flags      []string
	}{
		{"private", confinedWhole, []string{"--pidfile", filepath.Join(u.dir, "pid"), "--cidfile", filepath.Join(u.dir, "cid")}},
		{"thrown", confinedWhole, []string{"--rm"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"run", "-d", "-i", "--log-size", "65536", "--name", tt.name}, tt.flags...)
			u.must(t, append(args, "--", "sh", "-c", "read -r x; seq 30000; trap 'exit 7' TERM; echo ready; while :; do read -r x; done")...)
			pid := u.inspect(t, tt.name).Supervisor.PID
			attachtest.Eventually(t, "it is confined", func() bool { return restrictions(t, pid) == tt.want })
			// The log goes on in other files, and the rest works from outside.
			console := u.command(t, "console", tt.name)
			console.Stdin = strings.NewReader("\n")
			if err := console.Start(); err != nil {
				t.Fatal(err)
			}
			attachtest.Eventually(t, "the log is there", func() bool {
				return strings.HasSuffix(u.slipway(t, "logs", "--tail", "1", tt.name).stdout, "ready\n")
			})
			_ = console.Process.Kill()
			_ = console.Wait()
			u.must(t, "exec", tt.name, "true")
			u.must(t, "ports", tt.name, "add", "127.0.0.1:0:80")
			u.must(t, "stop", tt.name)
			if tt.name == "thrown" {
				return // and clean looks for what is left
			}
			if code := u.must(t, "wait", tt.name); code != "7" {
				t.Errorf("exit code %s", code)
			}
			if log := u.slipway(t, "logs", tt.name); strings.Contains(log.stdout, "lost") {
				t.Error("entries of the log are lost")
			}
			if b, err := os.ReadFile(filepath.Join(u.inspect(t, tt.name).Data, "logs/supervisor.log")); err != nil || len(b) > 0 {
				t.Errorf("the supervisor says %s, %v", b, err)
			}
			if _, err := os.Stat(filepath.Join(u.dir, "pid")); err == nil {
				t.Error("the file of the process id is left")
			}
			u.must(t, "rm", tt.name)
			if tt.name == "private" {
				os.Remove(filepath.Join(u.dir, "cid"))
			}
		})
	}
}

// TestConfinedPart has supervisors that go on to need others' files or programs confined
// in part.
func TestConfinedPart(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.env = append(u.env, "XDG_RUNTIME_DIR="+t.TempDir()) // which the network's switch outlives a little
	cmd := u.command(t, "run", "--network", "shop", "--", "cat")
	end, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	attachtest.Eventually(t, "it is confined", func() bool {
		return restrictions(t, cmd.Process.Pid) == "CapPrm 0000000000000000 NoNewPrivs 1 Seccomp 0"
	})
	end.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestConfinedRemoval has containers write files of other ids and be thrown away, by
// supervisors that could not become anybody who owns those.
func TestConfinedRemoval(t *testing.T) {
	u := newImageUser(t)
	const script = `mkdir -p /a/b && chown -R 8:8 /a && chmod 700 /a/b && busybox nc -w 1 10.0.2.2 9 </dev/null 2>/dev/null; exec "$@"`
	// While its image is brought to the disk a supervisor is confined in part.
	u.run(t, "sh", "-c", "mkfifo fifo; touch -d yesterday home/.local/share/slipway/images/*.json home/.local/share/slipway/layers/*/meta.json")
	attachtest.Eventually(t, "the image is on the disk", func() bool {
		u.says(t, "", "run", "--net=none", "box", "busybox", "usleep", "200000")
		marks, err := filepath.Glob(filepath.Join(u.dir, "home/.local/share/slipway/images/*.durable"))
		return err == nil && len(marks) > 0
	})
	// The first that has one brought to the disk is confined all the same.
	const forget = `cd home/.local/share/slipway && rm images/*.durable layers/*/durable && touch -d yesterday images/*.json layers/*/meta.json`
	attachtest.Eventually(t, "the supervisor is confined", func() bool {
		u.run(t, "sh", "-c", forget)
		got := u.run(t, "sh", "-c", `"$0" run -q -i box cat <fifo & exec 3>fifo
			until grep -q NoNewPrivs:.1 /proc/$!/status; do kill -0 $! || break; done
			grep -q Seccomp:.2 /proc/$!/status && echo yes; exec 3>&-; wait $!; ls home/.local/share/slipway/images`, binary(t))
		return strings.HasPrefix(got.stdout, "yes\n") && strings.Contains(got.stdout, ".durable\n")
	})
	for _, ids := range []string{"host", "keep-id", "auto"} {
		for _, driver := range []string{"overlay", "copy"} {
			got := u.run(t, "sh", "-c", `"$0" run -q -i --userns="$1" --storage-driver="$2" -u 0 box sh -c "$3" sh cat <fifo & exec 3>fifo
				until grep -q "$4" /proc/$!/status; do kill -0 $! || break; done; grep Seccomp: /proc/$!/status; exec 3>&-; wait $!; echo $?; ls home/.local/share/slipway/writable home/.local/share/slipway/trash`,
				binary(t), ids, driver, script, "Seccomp:.2")
			want := "Seccomp:\t2\n0\nhome/.local/share/slipway/trash:\n\nhome/.local/share/slipway/writable:\n"
			if got.stdout != want || got.stderr != "" {
				t.Errorf("%s, %s: %+v", ids, driver, got)
			}
		}
	}
	attachtest.Eventually(t, "no process is left", func() bool { return len(processesOf(t, "slipway-init")) == 0 })
}
