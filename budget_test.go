// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a start of a container may cost, from the first execve to the last exit. Times
// are not the same twice; these are. Calls of the Go runtime itself, which depend on
// how its threads happen to run, are not counted.
const (
	maxExecs = 3   // slipway, its init stage, the command
	maxCalls = 810 // 786 when this was written
)

// runtimeCalls are those that Go's runtime makes for its threads, memory and poller.
var runtimeCalls = regexp.MustCompile(`^(futex|nanosleep|rt_sig\w+|sigaltstack|gettid|getpid|tgkill|mmap|munmap|madvise|mprotect|brk|sched_\w+|epoll_\w+|eventfd2|clone|clone3|arch_prctl|set_robust_list|rseq|exit|restart_syscall|membarrier)$`)

// TestStartBudget counts what a start of a container in all namespaces asks of the
// kernel. Its ids are mapped directly: newuidmap, being set-user-ID, cannot be traced.
func TestStartBudget(t *testing.T) {
	bin := binary(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is not installed: scripts/test-setup does that")
	}
	root := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{"usr", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-qq", "-o", trace, bin, "run", "--rm", "--net=none", "--rootfs", root+":O", "--userns=single",
		"-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "/usr/bin/true")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	execs, calls, counts := 0, 0, map[string]int{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		name, _, called := strings.Cut(strings.Join(f[1:], " "), "(")
		if !called || strings.HasPrefix(name, "<...") || runtimeCalls.MatchString(name) {
			continue
		}
		calls++
		counts[name]++
		if name == "execve" || name == "execveat" {
			execs++
		}
	}
	t.Logf("%d execs, %d calls: %v", execs, calls, counts)
	if execs > maxExecs || calls > maxCalls {
		t.Errorf("a start takes %d execs and %d calls, want at most %d and %d: %v", execs, calls, maxExecs, maxCalls, counts)
	}
}
