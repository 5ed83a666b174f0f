// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestExec runs commands in a container that runs.
func TestExec(t *testing.T) {
	attachtest.Open(t)
	u := newUser(t)
	u.must(t, "run", "-d", "--name", "box", "-e", "OURS=1", "-w", "/usr", "--", "sh", "-c", "grep -E '^(Cap|NoNew|Seccomp)|Groups' /proc/self/status; ls -l /proc/self/ns | sed 's/.*-> //'; exec sleep 1000")
	t.Run("rights", func(t *testing.T) {
		got := u.must(t, "exec", "box", "sh", "-c", "grep -E '^(Cap|NoNew|Seccomp)|Groups' /proc/self/status; ls -l /proc/self/ns | sed 's/.*-> //'")
		attachtest.Eventually(t, "the container has told its own", func() bool { return strings.Contains(u.must(t, "logs", "box"), "uts:") })
		if diff := cmp.Diff(u.must(t, "logs", "box"), got); diff != "" {
			t.Errorf("rights and namespaces (-container's +exec's):\n%s", diff)
		}
	})
	t.Run("descriptors", func(t *testing.T) {
		if got := u.must(t, "exec", "box", "sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"); got != "0 1 2 3 " { // 3 is ls's own
			t.Errorf("open descriptors: %s", got)
		}
	})
	t.Run("place", func(t *testing.T) {
		if got := u.must(t, "exec", "-e", "MORE=2", "box", "sh", "-c", "pwd; echo $OURS $MORE"); got != "/usr\n1 2" {
			t.Errorf("got %q", got)
		}
		if got := u.must(t, "exec", "-w", "/etc", "box", "pwd"); got != "/etc" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("input", func(t *testing.T) {
		cmd := u.command(t, "exec", "-i", "box", "cat")
		cmd.Stdin = strings.NewReader("typed")
		if got := finish(t, cmd); got != (result{stdout: "typed"}) {
			t.Errorf("got %+v", got)
		}
		cmd = u.command(t, "exec", "box", "cat")
		cmd.Stdin = strings.NewReader("typed")
		if got := finish(t, cmd); got != (result{}) {
			t.Errorf("without -i: %+v", got)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		if got := u.slipway(t, "exec", "-t", "box", "sh", "-c", "tty <&1; test -t 2"); got.code != 0 || !strings.HasPrefix(got.stdout, "/dev/pts/") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("terminal that is kept", func(t *testing.T) {
		if got := u.slipway(t, "exec", "-t", "box", "sh", "-c", "trap '' HUP; tail -f /dev/null & echo said; exit 3"); got.code != 3 || got.stdout != "said\r\n" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("terminal without input", func(t *testing.T) { // of a shell that edits its lines
		if got := u.slipway(t, "exec", "-it", "box", "bash", "--norc"); got.code != 0 || !strings.Contains(got.stdout, "exit") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("failures", func(t *testing.T) {
		if got := u.slipway(t, "exec", "box", "sh", "-c", "exit 7"); got.code != 7 || got.stderr != "" {
			t.Errorf("got %+v, want code 7", got)
		}
		if got := u.slipway(t, "exec", "box", "sh", "-c", "kill -TERM $$"); got.code != 143 {
			t.Errorf("got %+v, want code 143", got)
		}
		u.refuse(t, 127, "no-such", "exec", "box", "no-such")
		u.refuse(t, 126, "not executable", "exec", "box", "/etc/passwd")
		u.refuse(t, 125, "/no/such", "exec", "-w", "/no/such", "box", "true")
		u.refuse(t, 125, "no such container", "exec", "other", "true")
		u.refuse(t, 2, "want a container", "exec", "box")
	})
	t.Run("many", func(t *testing.T) {
		var work sync.WaitGroup
		for i := range 20 {
			work.Go(func() {
				if got := u.slipway(t, "exec", "box", "echo", fmt.Sprint(i)); got != (result{stdout: fmt.Sprintln(i)}) {
					t.Errorf("got %+v", got)
				}
			})
		}
		work.Wait()
	})
	t.Run("signals", func(t *testing.T) {
		for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 9, syscall.SIGKILL: -1} {
			out := newLines()
			cmd := u.command(t, "exec", "box", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done # "+sig.String())
			cmd.Stdout = out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			attachtest.Eventually(t, "the command runs", func() bool { return strings.Contains(out.String(), "ready") })
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // its state tells
			if got := cmd.ProcessState.ExitCode(); got != code {
				t.Errorf("%v: exit code %d, want %d", sig, got, code)
			}
		}
		attachtest.Eventually(t, "none of the commands is left", func() bool {
			return u.slipway(t, "exec", "box", "sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | grep -ac 'exit [9]'").stdout == "0\n"
		})
	})
	t.Run("end", func(t *testing.T) {
		ended := make(chan result)
		cmd := u.command(t, "exec", "box", "sleep", "1000")
		go func() { ended <- finish(t, cmd) }()
		attachtest.Eventually(t, "the command runs", func() bool {
			return u.slipway(t, "exec", "box", "sh", "-c", "cat /proc/*/comm 2>/dev/null | grep -c sleep").stdout == "2\n"
		})
		u.must(t, "stop", "-t", "0", "box")
		if got := <-ended; got.code != 137 {
			t.Errorf("got %+v, want code 137", got)
		}
		u.refuse(t, 125, "not running", "exec", "box", "true")
	})
}
