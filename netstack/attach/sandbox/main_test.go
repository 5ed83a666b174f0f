// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-net/slipway/netstack/attach/sandbox"
)

// confinedWord is the first argument of the test binary where it is to confine itself
// by the Policy that its standard input has, and then to make the attempts that the
// other arguments name. It is the test binary only that can be told so.
const confinedWord = "sandbox-confined"

// patience bounds a wait that would otherwise never end. Nothing is timed by it.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == confinedWord {
		os.Exit(confined(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// confined enters the sandbox and prints a line for each attempt: its errno's name,
// "ok", or what else it has to say.
func confined(attempts []string) int {
	var p sandbox.Policy
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		fmt.Println("decode policy:", err)
		return 1
	}
	before := prepare()
	if _, err := sandbox.Enter(p); err != nil {
		fmt.Println("enter:", err)
		return 1
	}
	for _, a := range attempts {
		name, arg, _ := strings.Cut(a, " ")
		fmt.Println(attemptsByName()[name](before, arg))
	}
	return 0
}

// An outcome is what came of a confined process.
type outcome struct {
	lines  []string // of the attempts
	pid    int
	signal syscall.Signal // that ended it, 0 for none
}

// run has a process confine itself by the policy and make attempts. In a program built
// with cgo, as for the race detector, there is no sandbox to test.
func run(t *testing.T, p sandbox.Policy, attr *syscall.SysProcAttr, attempts ...string) outcome {
	t.Helper()
	if usesCgo {
		t.Skip("threads that are not Go's cannot be confined: test without cgo")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	policy, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, append([]string{confinedWord}, attempts...)...)
	cmd.Stdin, cmd.Stderr, cmd.SysProcAttr = strings.NewReader(string(policy)), io.Discard, attr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Exited() && status.ExitStatus() != 0 {
		t.Fatalf("exit code %d: %s", status.ExitStatus(), out)
	}
	o := outcome{lines: strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"), pid: cmd.Process.Pid}
	if status.Signaled() {
		o.signal = status.Signal()
	}
	return o
}

// fails has a process confine itself by a policy that cannot be had, and returns what
// it says.
func fails(t *testing.T, p sandbox.Policy) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	policy, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, confinedWord)
	cmd.Stdin = strings.NewReader(string(policy))
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("it does not fail: %s", out)
	}
	return string(out)
}
