// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary do what the bench binary does when it is started
// again as one of its own processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-try-namespaces" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET}
		os.Exit(fail(os.Stderr, cmd.Run()))
	}
	if len(os.Args) > 1 && os.Args[1] == "-print-resolv-conf" {
		os.Exit(fail(os.Stderr, printResolvConf()))
	}
	if len(os.Args) > 1 && (strings.HasPrefix(os.Args[1], "stage:") || os.Args[1] == "-as-bench") {
		args := append([]string{os.Args[0]}, os.Args[1:]...)
		if args[1] == "-as-bench" {
			args = append(args[:1], args[2:]...)
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
		defer stop()
		os.Exit(run(ctx, args, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// needUserNamespaces skips the test where a plain user can make no user namespace,
// which it proves by trying.
func needUserNamespaces(t *testing.T) {
	t.Helper()
	f := &front{opts: Options{User: "nobody"}}
	cred, err := f.becomeUser()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-try-namespaces")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("no user namespaces for plain users: %v: %s", err, out)
	}
	t.Skipf("no user namespaces for plain users: %v: %s", err, out)
}

func TestDirectPath(t *testing.T) {
	needUserNamespaces(t)
	o, err := ParseOptions(strings.Fields("-cases ^tcp/throughput/.*/1$|connect/1$|roundtrip/1$|udp/up/1400|dns/1$|fairness/up|longpath/connect -subjects direct,pasta@/no/such/pasta "+
		"-duration 200ms -repeat 1 -mtu 1500 -family 4,6 -cc reno -user nobody"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o.Out = filepath.Join(t.TempDir(), "out.json")
	var out, progress bytes.Buffer
	if err := runFront(t.Context(), o, []string{"bench"}, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	r := loadReport(t, o.Out)
	seen := 0
	for _, c := range r.Cells {
		switch {
		case c.Subject != directName && !strings.HasPrefix(c.Missing, "not installed"):
			t.Errorf("%s %+v: missing for %q, want it not installed", c.Subject, c.Row, c.Missing)
		case c.Subject != directName || c.Missing == notApplicable:
		case strings.HasSuffix(c.Row.Metric.Name, "p999"): // the windows are too short for it
		case strings.HasPrefix(c.Row.Case, "longpath/") && c.Missing == "":
			seen++ // whether the relay was on time is up to who else runs here
		case c.Missing != "" || len(c.Flags) > 0:
			t.Errorf("%+v: missing for %q, flags %q", c.Row, c.Missing, c.Flags)
		default:
			seen++
		}
	}
	if seen == 0 {
		t.Errorf("no cell of the direct path:\n%s", out.String())
	}
}

// patience bounds the wait for a run to get going.
const patience = 30 * time.Second

// TestInterrupt stops a run in the middle and looks for what it left behind.
func TestInterrupt(t *testing.T) {
	needUserNamespaces(t)
	file := filepath.Join(t.TempDir(), "out.json")
	cmd := exec.Command("/proc/self/exe", "-as-bench", "-subjects", "direct", "-duration", "60s", "-cases", "up/1$", "-mtu", "1500", "-cc", "reno", "-out", file)
	progress, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var children []int
	for len(children) < 4 { // user, stage and two endpoints
		if ctx.Err() != nil {
			cmd.Process.Kill()
			t.Fatalf("the run has only %d processes", len(children))
		}
		children = descendants(t, cmd.Process.Pid)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, progress)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the interrupted run ended with: %v", err)
	}
	for _, pid := range children {
		if err := unix.Kill(pid, 0); err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	if r := loadReport(t, file); !r.Interrupted {
		t.Error("the report does not say that the run was interrupted")
	}
}

// descendants returns the processes that the process has started, and theirs.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended in the meantime
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		// The parent is the second field after the name (proc(5)).
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		parent, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		children[parent] = append(children[parent], child)
	}
	var all []int
	for todo := children[pid]; len(todo) > 0; todo = todo[1:] {
		all = append(all, todo[0])
		todo = append(todo, children[todo[0]]...)
	}
	return all
}

func loadReport(t *testing.T, path string) *Report {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		t.Fatal(err)
	}
	return r
}
