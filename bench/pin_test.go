// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPins(t *testing.T) {
	tests := []struct {
		name, in string
		want     Pins
		text     string // of the flag
		shared   string
		err      string // part of the error; empty for none
	}{
		{name: "one", in: "peer=0", want: Pins{"peer": {0}}, text: "peer=0"},
		{name: "all", in: "peer=0,container=1,helper=2-3", want: Pins{"peer": {0}, "container": {1}, "helper": {2, 3}}, text: "container=1,helper=2-3,peer=0"},
		{name: "joined", in: "helper=4+0-1+1", want: Pins{"helper": {0, 1, 4}}, text: "helper=0-1+4"},
		{name: "shared", in: "peer=0,container=1,helper=0-1", want: Pins{"peer": {0}, "container": {1}, "helper": {0, 1}}, text: "container=1,helper=0-1,peer=0",
			shared: "by -pin, peer and helper share CPU 0; container and helper share CPU 1"},
		{name: "empty", in: "", err: "names no CPU"},
		{name: "unknown kind", in: "host=0", err: `"host=0": want peer=CPUS`},
		{name: "no CPU", in: "peer=", err: "no CPU"},
		{name: "no list", in: "peer", err: "no CPU"},
		{name: "not a number", in: "peer=first", err: `"first"`},
		{name: "negative", in: "peer=-1", err: "no CPU"},
		{name: "too large", in: "peer=1024", err: "up to 1023"},
		{name: "huge range", in: "peer=0-4294967296", err: "up to 1023"},
		{name: "backwards", in: "peer=3-1", err: "runs backwards"},
		{name: "twice", in: "peer=0,peer=1", err: "there twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got Pins
			err := got.Set(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("pins (-want +got):\n%s", diff)
			}
			if got.String() != tt.text || got.shared() != tt.shared {
				t.Errorf("written %q, shared %q, want %q and %q", got.String(), got.shared(), tt.text, tt.shared)
			}
			var again Pins
			if err := again.Set(got.String()); err != nil || !cmp.Equal(again, got) {
				t.Errorf("read again: %v, error %v, want %v", again, err, got)
			}
		})
	}
}

func TestPinsCheck(t *testing.T) {
	p := Pins{"helper": {0, 3}}
	if err := p.check("0-3"); err != nil {
		t.Errorf("error %v for CPUs that are there", err)
	}
	if err := p.check("0-2"); err == nil || !strings.Contains(err.Error(), "-pin helper=3: this machine lets the bench use the CPUs 0-2") {
		t.Errorf("error %v, want one about CPU 3", err)
	}
	if err := Pins(nil).check(""); err != nil {
		t.Errorf("error %v for no pins", err)
	}
}

func FuzzPins(f *testing.F) {
	f.Add("peer=0,container=1,helper=0-1")
	f.Add("helper=0+3-5")
	f.Add("peer=0-1023")
	f.Fuzz(func(t *testing.T, s string) {
		var p Pins
		if p.Set(s) != nil {
			return
		}
		var again Pins
		if err := again.Set(p.String()); err != nil || !cmp.Equal(p, again) {
			t.Errorf("%q is written %q, which reads as %v, error %v", s, p.String(), again, err)
		}
	})
}

// TestPlaceTies starts processes from one place, tied and not, in turns.
func TestPlaceTies(t *testing.T) {
	p := newPlace()
	defer p.close()
	run := func(q *place) string {
		t.Helper()
		cmd := exec.Command("grep", "Cpus_allowed_list", "/proc/self/status")
		var out strings.Builder
		cmd.Stdout = &out
		if err := q.start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(strings.TrimPrefix(out.String(), "Cpus_allowed_list:"))
	}
	all := allowedCPUs(os.Getpid())
	cpus, err := parseCPUs(all)
	if err != nil {
		t.Fatal(err)
	}
	last := cpus[len(cpus)-1:]
	for range 2 {
		if got, want := run(p.on(last)), cpuList(last); got != want {
			t.Errorf("a tied process ran on %q, want %q", got, want)
		}
		if got := run(p.on(nil)); got != all {
			t.Errorf("a process that is not tied ran on %q, want %q", got, all)
		}
	}
	bad := exec.Command("true")
	if err := p.on([]int{maxCPU}).start(bad); err == nil || !strings.Contains(err.Error(), "set CPU affinity") {
		t.Errorf("error %v for a CPU that is not there", err)
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name string
		m    Machine
		pins Pins
		want []string // parts
	}{
		{name: "quiet and large", m: Machine{Cores: 8, Load: []string{"0.50"}}},
		{name: "one core", m: Machine{Cores: 1, Allowed: "3", Load: []string{"0.00"}}, want: []string{"one core (CPU 3): the peer's endpoint, the container's endpoint and the helper share it"}},
		{name: "two cores", m: Machine{Cores: 2, Load: []string{"0.50"}}, want: []string{"2 cores for 3 kinds of process"}},
		{name: "busy", m: Machine{Cores: 4, Load: []string{"1.01"}}, want: []string{"busy at the start: load average 1.01, above 1.00"}},
		{name: "load unknown", m: Machine{Cores: 4, Load: []string{""}}},
		{name: "pins overlap", m: Machine{Cores: 4}, pins: Pins{"peer": {1}, "helper": {0, 1}}, want: []string{"peer and helper share CPU 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.m.warnings(Plan{Pin: tt.pins})
			if len(got) != len(tt.want) {
				t.Fatalf("warnings %q, want %d", got, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("warning %q, want %q in it", got[i], want)
				}
			}
		})
	}
}

func TestPlacement(t *testing.T) {
	m := Machine{Governor: "performance", Hypervisor: "kvm"}
	m.note(map[string]string{"peer": "0", "container": "0-1"})
	m.note(map[string]string{"peer": "0", "container": "0-1", "helper": "1"})
	m.note(map[string]string{"helper": "0-1"})
	want := "peer tied to 0, container anywhere in 0-1, helper anywhere in 1 or 0-1; governor performance; hypervisor kvm"
	if diff := cmp.Diff(want, m.placement(Pins{"peer": {0}})); diff != "" {
		t.Errorf("placement (-want +got):\n%s", diff)
	}
}
