// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplainNamespaces(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		files map[string]string
		want  string // part of the explanation; empty for the error as it is
	}{
		{name: "limit", err: unix.ENOSPC, files: map[string]string{"/proc/sys/user/max_user_namespaces": "0\n"}, want: "as root, `sysctl -w user.max_user_namespaces=10000`"},
		{name: "Debian", err: unix.EPERM, files: map[string]string{"/proc/sys/user/max_user_namespaces": "9000\n", "/proc/sys/kernel/unprivileged_userns_clone": "0\n"},
			want: "`sysctl -w kernel.unprivileged_userns_clone=1`"},
		{name: "Ubuntu", err: unix.EACCES, files: map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			want: "`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"},
		{name: "used up", err: unix.ENOSPC, files: map[string]string{"/proc/sys/user/max_user_namespaces": "9\n"}, want: "user.max_net_namespaces"},
		{name: "seccomp", err: unix.EPERM, want: "see user_namespaces(7)"},
		{name: "something else", err: unix.ENOMEM, files: map[string]string{"/proc/sys/user/max_user_namespaces": "0\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := fmt.Errorf("make a user namespace: %w", tt.err)
			got := explainNamespaces(err, func(path string) string { return tt.files[path] })
			if !errors.Is(got, tt.err) {
				t.Errorf("error %v, want %v in it", got, tt.err)
			}
			if tt.want == "" && got != err {
				t.Errorf("error %v, want it as it was", got)
			}
			if !strings.Contains(got.Error(), tt.want) || strings.Contains(got.Error(), "\n") {
				t.Errorf("error %q, want one line with %q", got, tt.want)
			}
		})
	}
}

func TestOpenTun(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	if err := openTun(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "as root, `modprobe tun`") {
		t.Errorf("error %v for a missing device, want one with modprobe", err)
	}
	// Permissions do not keep root out, but a directory cannot be written to by anyone.
	if err := openTun(dir); err == nil || !strings.Contains(err.Error(), "as root, `chmod 0666 "+dir) {
		t.Errorf("error %v for a device that cannot be opened, want one with chmod", err)
	}
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := openFiles(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := openTun(open); err != nil {
		t.Error(err)
	}
	if after, err := openFiles(os.Getpid()); err != nil || after != before {
		t.Errorf("%d open files after it, error %v, want %d", after, err, before)
	}
}

func TestCheckOut(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old.json")
	if err := os.WriteFile(old, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		err        string
	}{
		{"new", filepath.Join(dir, "new.json"), ""},
		{"new directory", filepath.Join(dir, "a", "b", "new.json"), ""},
		{"there already", old, ""},
		{"a directory", dir, "is a directory"},
		{"below a file", filepath.Join(old, "x.json"), "not a directory"},
		{"nowhere", "/proc/self/fdinfo/x.json", "-out: the report could not be written"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkOut(tt.path)
			if (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if tt.path == old {
				return
			}
			if info, err := os.Stat(tt.path); err == nil && !info.IsDir() {
				t.Error("it left a file behind")
			}
		})
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != "kept" {
		t.Errorf("a report that was there is %q now, error %v", b, err)
	}
}

// TestGapsAreShown runs no step of a gap, and shows why in each of its cells.
func TestGapsAreShown(t *testing.T) {
	p := planFor(t, "-cases ^tcp/throughput/up/1$|^iperf3/up/1$|^start$ -subjects direct,pasta -mtu 1500 -cc cubic,bbr -repeat 1")
	p.Gaps = []Gap{{Congestion: "bbr", Why: "no bbr"}, {Cases: iperfPrefix, Why: "no iperf3"}}
	var ran []string
	for _, s := range p.steps() {
		if p.runs(s) {
			ran = append(ran, s.String())
		}
	}
	if len(ran) != 3 || p.Estimate().Steps != 3 {
		t.Errorf("steps %q, want throughput twice and start, all in cubic", ran)
	}
	for _, c := range MakeCells(p, nil) {
		want := "not measured: the run was interrupted"
		switch {
		case strings.HasPrefix(c.Row.Case, iperfPrefix) && c.Row.Congestion == "cubic":
			want = "no iperf3"
		case c.Row.Congestion == "bbr":
			want = "no bbr"
		}
		if c.Missing != want && c.Missing != notApplicable {
			t.Errorf("%s %s %s: missing for %q, want %q", c.Subject, c.Row.Case, c.Row.Congestion, c.Missing, want)
		}
	}
}

func TestGiveUp(t *testing.T) {
	p := planFor(t, "-cases ^tcp/connect/ -subjects pasta,slipway -mtu 1500 -repeat 1")
	steps := p.steps()
	var first, second step // of pasta, in two cases
	for _, s := range steps {
		if s.Subject.Name != "pasta" {
			continue
		}
		if first.Case == nil {
			first = s
		} else {
			second = s
		}
	}
	var a patience
	for i := range giveUpTries + 1 {
		if why := a.over(first); why != "" {
			t.Fatalf("given up after %d failures in one case: %s", i, why)
		}
		a.note(first, "it hangs")
	}
	a.note(second, "it hangs again")
	if why := a.over(first); !strings.Contains(why, "given up after the helper failed 5 times in a row, at last with: it hangs again") {
		t.Errorf("reason %q, want that of the last failure", why)
	}
	other := first
	other.Family = 6
	if why := a.over(other); why != "" {
		t.Errorf("given up under other conditions: %s", why)
	}
	back := first
	back.Case = loopbackCases()[0]
	a.note(back, "")
	if why := a.over(first); why == "" {
		t.Error("not given up any more after it worked when it was started in another way")
	}
	a.note(first, "")
	if why := a.over(first); why != "" {
		t.Errorf("given up after it worked: %s", why)
	}
	for _, c := range loopbackCases() {
		back.Case = c
		a.note(back, "no such flag")
	}
	if why := a.over(first); why != "" {
		t.Errorf("given up for what failed when it was started in another way: %s", why)
	}
}
