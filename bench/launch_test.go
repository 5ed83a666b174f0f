// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sampleLaunch is a small run of container engines, written down: runc is not
// installed, and slipway is slower than it is to be.
func sampleLaunch() *Report {
	subjects := []Subject{
		{Name: "direct", Tool: directName},
		{Name: "bwrap", Tool: "bwrap", Version: "bubblewrap 0.1"},
		{Name: "runc", Tool: "runc", Missing: "not installed: install runc"},
		{Name: "crun", Tool: "crun", Version: "crun 0.1"},
		{Name: "podman", Tool: "podman", Version: "podman 0.1"},
		{Name: "slipway", Tool: "slipway", Version: "slipway 0.1"},
	}
	r := &Report{
		Schema: schemaVersion, Began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Took: "1m2s", CommandLine: []string{"bench", "-launch", "-out", "x"},
		Machine: Machine{Kernel: "6.1.0 x86_64", CPU: "a CPU", Cores: 2, Allowed: "0-1", Memory: "1 kB", OS: "an OS", Go: "go1.2.3", Load: []string{"0.1", "0.2"}},
		Plan:    Plan{Subjects: subjects, Repeat: 2, Launch: &LaunchPlan{Files: 100, Megabytes: 1, Dir: "/var/tmp", User: "me"}},
	}
	r.Plan.withoutNetwork()
	r.Records = sampleStarts()
	s := seen{Namespaces: []string{"user", "net"}, UIDs: 65537, Root: "overlay", Seccomp: true, NoNewPrivs: true, Links: []string{"tap0"}, Route: true}
	b, err := json.Marshal(startDetail{Seen: s})
	if err != nil {
		panic(err)
	}
	last := &r.Records[13] // slipway's last start
	last.Detail, last.Command = b, []string{"slipway", "run", "--", "/bin/true", "LINE"}
	r.Cells = MakeCells(r.Plan, r.Records)
	return r
}

// sampleStarts are its records.
func sampleStarts() []Record {
	var all []Record
	start := func(name, subject string, repeat int, values map[string]float64) {
		all = append(all, Record{Case: name, Subject: subject, Repeat: repeat, Values: values})
	}
	none, with := launchStart{}.Name(), launchStart{network: true}.Name()
	for _, m := range []struct {
		name, subject string
		ms            []float64
		execs, calls  float64
	}{
		{none, "direct", []float64{0.5, 0.6}, 1, 3},
		{none, "bwrap", []float64{4, 4.2}, 2, 400},
		{none, "crun", []float64{10, 10.2}, 4, 1100},
		{none, "podman", []float64{150, 160}, 9, 9900},
		{none, "slipway", []float64{8, 9}, 3, 800},
		{with, "podman", []float64{170, 171}, 11, 10200},
		{with, "slipway", []float64{14, 15}, 3, 900},
	} {
		for i, ms := range m.ms {
			v := map[string]float64{"time": ms}
			if i == 0 {
				v["execs"], v["calls"] = m.execs, m.calls
			}
			start(m.name, m.subject, i, v)
		}
	}
	for _, m := range []struct {
		name, subject string
		values        map[string]float64
	}{
		{launchPull{}.Name(), "podman", map[string]float64{"time": 30, "cpu": 35, "disk": 1000}},
		{launchPull{}.Name(), "slipway", map[string]float64{"time": 10, "cpu": 12, "disk": 1001}},
		{launchKeepID{}.Name(), "podman", map[string]float64{"first": 9, "second": 0.2, "first_disk": 1000, "second_disk": 0}},
		{launchKeepID{}.Name(), "slipway", map[string]float64{"first": 0.3, "second": 0.01, "first_disk": 10, "second_disk": 0}},
	} {
		start(m.name, m.subject, 0, m.values)
		start(m.name, m.subject, 1, m.values)
	}
	return all
}

func TestLaunchTableGolden(t *testing.T) {
	golden(t, "launch100.golden", reportText(sampleLaunch(), screen{width: 100}))
}

func TestLaunchPage(t *testing.T) {
	b, err := htmlReport(sampleLaunch())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Engines that run rootless containers", "no container: the program alone", "at most 2.50×", "65537 uids", "there is no container"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(string(b), "helper") {
		t.Error("the page speaks of helpers")
	}
}

// TestLaunchSchema reads results of container engines, and what cannot be in them.
func TestLaunchSchema(t *testing.T) {
	want := sampleLaunch()
	got, err := parseReport(encode(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, emptyLists); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	for _, change := range []func(*Report){
		func(r *Report) { r.Plan.Launch = nil },
		func(r *Report) { r.Cells[0].Row.MTU = 1500 },
	} {
		r := sampleLaunch()
		change(r)
		if _, err := parseReport(encode(t, r)); err == nil || !strings.Contains(err.Error(), "no such conditions") {
			t.Errorf("error %v, want one about conditions", err)
		}
	}
}

func TestLaunchBars(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Report)
		want   []string // marks
	}{
		{"as it is", func(*Report) {}, []string{"no", "no", "yes", "yes", "unknown", "yes", "yes", "yes"}},
		{"fast in itself", set("slipway", "ms", 9.9), []string{"yes", "yes", "yes", "yes", "unknown", "yes", "yes", "yes"}},
		{"fast beside bwrap", func(r *Report) { set("slipway", "ms", 12)(r); set("bwrap", "ms", 5)(r) }, []string{"yes", "no", "yes", "yes", "unknown", "yes", "yes", "yes"}},
		{"slow", set("slipway", "ms", 18), []string{"no", "no", "no", "yes", "unknown", "yes", "yes", "yes"}},
		{"slow to pull", set("slipway", "s", 31), []string{"no", "no", "yes", "no", "unknown", "yes", "yes", "yes"}},
		{"large", set("slipway", "MB on the disk", 1100), []string{"no", "no", "yes", "yes", "unknown", "no", "yes", "yes"}},
		{"no crun", func(r *Report) {
			r.Cells = slices.DeleteFunc(r.Cells, func(c Cell) bool { return c.Subject == "crun" })
		}, []string{"no", "unknown", "yes", "yes", "unknown", "yes", "yes", "yes"}},
		{"doubtful", func(r *Report) {
			for i := range r.Cells {
				r.Cells[i].Doubt = r.Cells[i].Subject == "slipway"
			}
		}, []string{"unknown", "unknown", "unknown", "unknown", "unknown", "unknown", "unknown", "unknown"}},
		{"no slipway", func(r *Report) { r.Plan.Subjects[5].Tool = "podman" }, nil},
		{"network helpers", func(r *Report) { r.Plan.Launch = nil }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sampleLaunch()
			tt.change(r)
			var marks []string
			for _, b := range launchBars(r) {
				marks = append(marks, b.mark())
				if text := b.String(); !strings.Contains(text, b.Want) || !strings.Contains(text, b.mark()) {
					t.Errorf("bar %q", text)
				}
			}
			if diff := cmp.Diff(tt.want, marks); diff != "" {
				t.Errorf("marks (-want +got):\n%s", diff)
			}
		})
	}
}

// set makes the medians of a subject's values of the unit v.
func set(subject, unit string, v float64) func(*Report) {
	return func(r *Report) {
		for i := range r.Cells {
			if c := &r.Cells[i]; c.Subject == subject && c.Row.Metric.Unit == unit && c.Missing == "" {
				c.Values = []float64{v, v}
				c.Summary = Summarize(c.Values)
			}
		}
	}
}

func TestLaunchOptions(t *testing.T) {
	o, err := ParseOptions([]string{"-launch", "-quick"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p := o.Plan
	if p.Repeat != launchQuickRepeat || p.Launch.Files != launchFiles/launchQuickShare || p.Launch.Megabytes != launchMegabytes/launchQuickShare || p.Launch.Dir != launchPlace {
		t.Errorf("plan %+v, %+v", p, p.Launch)
	}
	for _, c := range p.cases() {
		if _, ok := c.(launchCase); !ok {
			t.Errorf("%s is no case of container engines", c.Name())
		}
	}
	for _, c := range allCases() {
		if _, ok := c.(networkCase); !ok {
			t.Errorf("%s is no case of network helpers", c.Name())
		}
	}
	for args, want := range map[string]string{
		"-launch -mtu 1500":        "-mtu: it says nothing of container engines",
		"-launch -soak 1m":         "-soak: ",
		"-files 200":               "-files: it says something with -launch only",
		"-launch -files 1":         "-files 1: want 4 to",
		"-launch -size 0":          "-size 0: want 1 to",
		"-launch -subjects pasta":  "pasta runs no containers",
		"-subjects bwrap":          "bwrap is no network helper",
		"-launch -cases ^tcp/":     "matches no case",
		"-launch -repeat 0":        "-repeat 0",
		"-launch -subjects direct": "",
	} {
		_, err := ParseOptions(strings.Fields(args), io.Discard)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
}

// TestProgram runs the program that containers run.
func TestProgram(t *testing.T) {
	b, err := makeProgram(runtime.GOARCH, "a line\n")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "true")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("a line\n"))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "a line\n" {
		t.Errorf("it wrote %q, error %v", got, err)
	}
	// It waits for its input: only now it may end.
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
		t.Errorf("then it wrote %q, error %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := makeProgram("s390x", ""); err == nil {
		t.Error("a program for a machine that it is not known for")
	}
}

func TestParseStrace(t *testing.T) {
	const heading = "syscall calls errors\n---- ---- ----\n"
	for in, want := range map[string]traceCounts{
		heading + "execve 5 2\nread 7\ntotal 12 2\n":  {Execs: 3, Calls: 12},
		heading + "execve 3 1\nexecveat 2\ntotal 5 1": {Execs: 4, Calls: 5},
		heading + "execve 1\nclone3 100 1\ntotal 101": {Execs: 1, Calls: 101},
	} {
		if got, err := parseStrace(in); err != nil || got != want {
			t.Errorf("%q: %+v, error %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", heading, heading + "execve 5\n", heading + "read 1\ntotal 1\n", heading + "execve 1 2\ntotal 3\n", heading + "execve 1 x\ntotal 3\n"} {
		if got, err := parseStrace(in); err == nil {
			t.Errorf("%q: %+v, want an error", in, got)
		}
	}
}

func FuzzParseStrace(f *testing.F) {
	f.Add("execve 5 2\nread 7\ntotal 12 2\n")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := parseStrace(s); err == nil && (c.Execs < 1 || c.Calls < 0) {
			t.Errorf("%q: %+v", s, c)
		}
	})
}

func TestSeen(t *testing.T) {
	if got := mappedIDs("         0       1001          1\n         1     100000      65536\n"); got != 65537 {
		t.Errorf("%d ids", got)
	}
	const mounts = "21 1 254:0 / / rw - ext4 /dev/vda rw\n30 21 0:46 / /proc rw master:1 - proc proc rw\n31 21 0:46 / / rw,relatime - overlay overlay rw,lowerdir=/l\n"
	if got := rootType(mounts); got != "overlay" {
		t.Errorf("root %q", got)
	}
	const dev = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  tap0: 84 1\n"
	if diff := cmp.Diff([]string{"tap0"}, links(dev)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	const routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n"
	if defaultRoute(routes) || defaultRoute(routes+"tap0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n") ||
		!defaultRoute(routes+"tap0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\n") {
		t.Error("a default route is not told from others")
	}
	for s, want := range map[string]string{
		(seen{}).String(): "nothing of its own",
		(seen{Namespaces: []string{"user"}, UIDs: 1, Root: "ext4"}).String():                   "namespaces user, 1 uid, ext4 as root",
		(seen{Namespaces: []string{"net"}, Root: "overlay", Links: []string{"tap0"}}).String(): "namespaces net, overlay as root, interfaces tap0 without a route",
	} {
		if s != want {
			t.Errorf("%q, want %q", s, want)
		}
	}
}

func FuzzSeen(f *testing.F) {
	f.Add("0 1 2\n", "1 1 1 / / rw - ext4 x\n", "lo: 1\n", "x\t00000000\n")
	f.Fuzz(func(_ *testing.T, ids, mounts, dev, routes string) {
		mappedIDs(ids)
		rootType(mounts)
		links(dev)
		defaultRoute(routes)
	})
}

func TestListsUser(t *testing.T) {
	const s = "other:1:2\nme:100000:65536\n1005:1:2\n"
	if !listsUser(s, "me", 7) || !listsUser(s, "x", 1005) || listsUser(s, "m", 7) || listsUser("", "me", 7) {
		t.Error("a user is not told from others")
	}
}

// TestBulk leaves out outliers, but only of many repeats.
func TestBulk(t *testing.T) {
	few := []float64{9, 1, 2}
	many := []float64{5, 100, 5, 5, 4, 5, 5, 6, 5, 0.1}
	for _, tt := range []struct {
		values    []float64
		low, high float64
	}{{few, 1, 9}, {many, 4, 6}, {many[:9], 4, 100}} {
		c := Cell{Values: tt.values, Summary: Summarize(tt.values)}
		if low, high := c.bulk(); low != tt.low || high != tt.high {
			t.Errorf("%v: %v to %v, want %v to %v", tt.values, low, high, tt.low, tt.high)
		}
	}
	own := Cell{Row: Row{Metric: Metric{Name: "time", Unit: "ms"}}, Values: many, Summary: Summarize(many)}
	own.doubt(0)
	if own.Doubt {
		t.Errorf("doubtful for one outlier: %q", own.Flags)
	}
	peer := Cell{Values: []float64{8, 9}, Summary: Summarize([]float64{8, 9}), Subject: "peer"}
	var v chapterVerdict
	v.sort("row", "ms", own, peer)
	if len(v.Better) != 1 {
		t.Errorf("verdict %q, want one that is better", v.Counts())
	}
}
