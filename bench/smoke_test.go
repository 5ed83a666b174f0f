// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// limitFlag is the first argument, with a number, of a bench that may make no more
// user namespaces than that. It sets the limit of the namespace that it runs in.
const limitFlag = "-user-namespaces="

// TestMain makes the test binary do what the bench binary does when it is started
// again as one of its own processes.
func TestMain(m *testing.M) {
	if userns.IsStage(os.Args) {
		os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "-try-namespaces" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^$")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET}
		os.Exit(fail(os.Stderr, cmd.Run()))
	}
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], limitFlag) {
		if err := writeSysctl("user/max_user_namespaces", strings.TrimPrefix(os.Args[1], limitFlag)); err != nil {
			os.Exit(fail(os.Stderr, err))
		}
		os.Args[1] = "-as-bench"
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
	o, err := ParseOptions(strings.Fields("-cases ^tcp/throughput/.*/1$|connect/1$|roundtrip/1$|udp/up/1400|dns/1$|fairness/up|^pull$|longpath/connect|publish/.*/(tcp/down|udp) -subjects direct,pasta@/no/such/pasta "+
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
	for _, rec := range r.Records {
		partial := rec.Proof == nil && strings.HasSuffix(rec.MissingFrom, "p999") // see above: such a record has none
		if !partial && (rec.Proof == nil || rec.Proof.PID == 0 || rec.Proof.Failed != "") {
			t.Errorf("%s IPv%d: proof %+v, error %q", rec.Case, rec.Family, rec.Proof, rec.Err)
		}
		if v, ok := rec.Values[sourceMetric]; ok && v != 1 {
			t.Errorf("%s: without a helper, the client's address was not kept", rec.Case)
		}
	}
}

// TestPeers runs the peers that are installed through one case of each kind: what
// has a value has a proof, what has none has a reason, and nothing stays behind.
func TestPeers(t *testing.T) {
	needUserNamespaces(t)
	tmp, err := os.MkdirTemp("", "bench-peers-") // the parent of t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o777); err != nil { // for the plain user
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "out.json")
	t.Setenv("TMPDIR", tmp)
	o, err := ParseOptions(strings.Fields("-cases ^tcp/connect/1$|publish/remote/tcp/down -subjects slirp4netns,pasta,rootlesskit,gvisor-tap-vsock,no=rootlesskit@/no/such "+
		"-duration 1s -repeat 1 -mtu 65520 -cc reno -user nobody"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o.Out = file
	var out, progress bytes.Buffer
	if err := runFront(t.Context(), o, []string{"bench"}, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	r := loadReport(t, file)
	for _, s := range r.Plan.Subjects {
		if _, err := exec.LookPath(tools()[s.Tool].binary); s.Missing == "" && (err != nil || s.Version == "") {
			t.Errorf("%s takes part: looked up with %v, version %q", s.Name, err, s.Version)
		}
	}
	tun, err := os.Stat("/dev/net/tun")
	mayWork := err == nil && tun.Mode().Perm()&0o006 == 0o006
	for _, rec := range r.Records {
		if mayWork && rec.Err != "" {
			t.Errorf("%s %s: %s", rec.Case, rec.Subject, rec.Err)
		}
		if (rec.Err == "") != (len(rec.Values) > 0) {
			t.Errorf("%s %s: values %v, error %q", rec.Case, rec.Subject, rec.Values, rec.Err)
		}
		if rec.Err == "" && (rec.Proof == nil || rec.Proof.Failed != "" || rec.Proof.Exe == "" || rec.Proof.Exe == "bench.test") {
			t.Errorf("%s %s: proof %+v", rec.Case, rec.Subject, rec.Proof)
		}
	}
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("%s stayed behind", f.Name())
	}
}

// testPatience bounds the wait for a run to get going.
const testPatience = 30 * time.Second

// TestInterrupt stops a run in the middle and looks for what it left behind, and
// for what it had measured.
func TestInterrupt(t *testing.T) {
	needUserNamespaces(t)
	dir, file := openDir(t), filepath.Join(t.TempDir(), "out.json")
	temp := filepath.Join(dir, "temp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(temp, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-as-bench", "-subjects", "direct,slipway@"+slipwayFor(t, dir), "-user", "nobody",
		"-duration", "4s", "-repeat", "1", "-cases", "^tcp/throughput/up/1$", "-mtu", "1500", "-cc", "reno", "-out", file)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	var table bytes.Buffer
	cmd.Stdout = &table
	progress, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(testPatience, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	running := awaitHelper(t, cmd.Process.Pid)
	namespaces := map[string]bool{}
	for _, pid := range running {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil {
			namespaces[ns] = true
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, progress)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the interrupted run ended with: %v", err)
	}
	for _, pid := range running {
		if err := unix.Kill(pid, 0); err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	nothingLeft(t, namespaces, temp)
	r := loadReport(t, file)
	if !r.Interrupted || len(r.Records) != 1 || r.Records[0].Values["rate"] == 0 {
		t.Errorf("interrupted %v with %d records, want true and the one of the direct path", r.Interrupted, len(r.Records))
	}
	if !strings.Contains(table.String(), "INTERRUPTED") || !strings.Contains(table.String(), "the run was interrupted") {
		t.Errorf("the table does not say that the run was interrupted:\n%s", table.String())
	}
}

// awaitHelper waits until the run is at a step with a slipway, and returns its
// processes then.
func awaitHelper(t *testing.T, pid int) []int {
	t.Helper()
	const pollTime = 20 * time.Millisecond
	end := time.Now().Add(testPatience)
	poll := time.NewTicker(pollTime)
	defer poll.Stop()
	for range poll.C {
		running := descendants(t, pid)
		if time.Now().After(end) {
			t.Fatalf("no slipway in %s, but %d processes", testPatience, len(running))
		}
		for _, p := range running {
			// And the user, the stage and two endpoints.
			if strings.Contains(readFile(fmt.Sprintf("/proc/%d/cmdline", p)), "\x00attach\x00") && len(running) >= 5 {
				return running
			}
		}
	}
	return nil
}

// nothingLeft looks for processes in the network namespaces, other than our own, and
// for files in the directory.
func nothingLeft(t *testing.T, namespaces map[string]bool, dir string) {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	delete(namespaces, own)
	if len(namespaces) < 2 {
		t.Errorf("network namespaces %v, want at least the host's and the peer's", namespaces)
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && namespaces[ns] {
			t.Errorf("%s is still in the namespace %s", link, ns)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 0 {
		t.Errorf("files left: %v, error %v", files, err)
	}
}

// descendants returns the processes that the process has started, and theirs.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	all, err := processTree(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p int) bool { return p == pid })
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
