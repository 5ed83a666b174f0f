// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseOptions(t *testing.T) {
	var all []Subject
	for _, name := range []string{"direct", "slirp4netns", "pasta", "rootlesskit", "gvisor-tap-vsock", "slipway"} {
		all = append(all, Subject{Name: name, Tool: name})
	}
	all = append(all, Subject{Name: "stacked", Tool: "slipway", Extra: []string{"--accel=off"}, Cases: "^(tcp|fairness|longpath)/|^(memory|start)$"})
	tests := []struct {
		name string
		args string
		want Options
		err  string // part of the error; empty for none
	}{
		{
			name: "defaults",
			want: Options{User: "nobody", Plan: Plan{
				Subjects: all, Repeat: 3, Window: time.Second, Warmup: 300 * time.Millisecond, Limit: 35 * time.Minute, StartLimit: 10 * time.Second,
				MTUs: []int{65520, 1500}, Families: []int{4}, Congestion: []string{"cubic", "bbr"},
			}},
		},
		{
			name: "quick",
			args: "-quick",
			want: Options{User: "nobody", Plan: Plan{
				Subjects: all, Repeat: 2, Window: 300 * time.Millisecond, Warmup: 90 * time.Millisecond, Limit: 3 * time.Minute, StartLimit: 10 * time.Second,
				MTUs: []int{65520, 1500}, Families: []int{4}, Congestion: []string{"cubic"}, Quick: true,
			}},
		},
		{
			name: "quick, but with a window of one's own",
			args: "-quick -duration 1s -mtu 1500 -family 6,4 -cc cubic,bbr -subjects direct -out x -user me",
			want: Options{User: "me", Out: "x", Plan: Plan{
				Subjects: all[:1], Repeat: 2, Window: time.Second, Warmup: 300 * time.Millisecond, Limit: 3 * time.Minute, StartLimit: 10 * time.Second,
				MTUs: []int{1500}, Families: []int{6, 4}, Congestion: []string{"cubic", "bbr"}, Quick: true,
			}},
		},
		{
			name: "soak",
			args: "-soak 1m",
			want: Options{User: "nobody", Plan: Plan{
				Subjects: all[5:6], Repeat: 3, Window: time.Second, Warmup: 300 * time.Millisecond, Limit: 35 * time.Minute, StartLimit: 10 * time.Second,
				MTUs: []int{65520, 1500}, Families: []int{4}, Congestion: []string{"cubic", "bbr"}, Soak: time.Minute,
			}},
		},
		{name: "soak too short", args: "-soak 1s", err: "-soak 1s"},
		{name: "soak of nothing", args: "-soak 1m -subjects pasta", err: "0 slipways"},
		{name: "soak of two", args: "-soak 1m -subjects slipway,old=slipway", err: "2 slipways"},
		{name: "argument", args: "quick", err: `unexpected argument "quick"`},
		{name: "bad expression", args: "-cases (", err: "-cases"},
		{name: "no such case", args: "-cases tpc", err: "matches no case"},
		{name: "no such tool", args: "-subjects vpnkit", err: `unknown tool "vpnkit"`},
		{name: "no subject", args: "-subjects ,", err: "empty list"},
		{name: "subject twice", args: "-subjects pasta,pasta", err: "there twice"},
		{name: "MTU not a number", args: "-mtu big", err: `"big"`},
		{name: "MTU too small", args: "-mtu 576", err: "-mtu 576"},
		{name: "family", args: "-family 5", err: "-family 5"},
		{name: "no repeats", args: "-repeat 0", err: "-repeat 0"},
		{name: "window too short", args: "-duration 1ms", err: "-duration 1ms"},
		{name: "no time to start", args: "-start-limit 0s", err: "-start-limit 0s"},
		{name: "bad pin", args: "-pin cpu=0", err: `"cpu=0": want peer=CPUS`},
		{name: "no congestion control", args: "-cc ,", err: "-cc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseOptions(strings.Fields(tt.args), io.Discard)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, emptyLists); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

// emptyLists makes no difference between a nil and an empty slice.
var emptyLists = cmp.FilterValues(
	func(a, b []string) bool { return len(a) == 0 && len(b) == 0 },
	cmp.Comparer(func(_, _ []string) bool { return true }),
)

func TestParseSubject(t *testing.T) {
	tests := []struct {
		in   string
		want Subject
		err  bool
	}{
		{in: "pasta", want: Subject{Name: "pasta", Tool: "pasta"}},
		{in: "slipway@/tmp/a", want: Subject{Name: "slipway@/tmp/a", Tool: "slipway", Path: "/tmp/a"}},
		{in: "old=slipway@/tmp/a", want: Subject{Name: "old", Tool: "slipway", Path: "/tmp/a"}},
		{in: "stacked=slipway+--accel=off+-x", want: Subject{Name: "stacked", Tool: "slipway", Extra: []string{"--accel=off", "-x"}}},
		{in: "s=slipway+-x=y#^udp/|=#", want: Subject{Name: "s", Tool: "slipway", Extra: []string{"-x=y"}, Cases: "^udp/|=#"}},
		{in: "pasta#^udp/", want: Subject{Name: "pasta", Tool: "pasta", Cases: "^udp/"}},
		{in: "pasta#(", err: true},
		{in: "slipway+--accel=off", want: Subject{Name: "slipway+--accel=off", Tool: "slipway", Extra: []string{"--accel=off"}}},
		{in: "=pasta", err: true},
		{in: "x=y", err: true},
		{in: "", err: true},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseSubject(tt.in)
			if (err != nil) != tt.err {
				t.Fatalf("error %v, want one: %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, emptyLists); diff != "" {
				t.Errorf("subject (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	j := job{MTU: 1500, PID: 42, Dir: "/d", Program: "/b"}
	published := j
	published.Publish = []publication{{"tcp", netip.IPv4Unspecified(), 80}, {"udp", netip.IPv4Unspecified(), 53}}
	back := j
	back.HostLoopback = true
	const rootlesskit = "--mtu=1500 --disable-host-loopback --port-driver=builtin --copy-up=/etc --copy-up=/run --propagation=rslave"
	tests := []struct {
		subject string
		job     job
		want    string // the first command line
	}{
		{"slirp4netns@/s+--cidr=10.1.0.0/24", j, "/s --disable-host-loopback --mtu=1500 --enable-ipv6 -c -r 3 --enable-sandbox --enable-seccomp --cidr=10.1.0.0/24 42 tap0"},
		{"slirp4netns@/s", published, "/s --disable-host-loopback --mtu=1500 --enable-ipv6 -c -r 3 --api-socket /d/api --enable-sandbox --enable-seccomp 42 tap0"},
		{"slipway@/s+--accel=off", j, "/s attach --mtu 1500 --ready-fd 3 --api /d/api --accel=off 42"},
		{"slipway@/s", published, "/s attach --mtu 1500 --ready-fd 3 --api /d/api --publish 0.0.0.0:80:80/tcp --publish 0.0.0.0:53:53/udp 42"},
		{"pasta@/p", j, "/p --config-net -t none -u none -T none -U none --no-map-gw --dns-forward 169.254.1.1 --quiet -m 1500 -P /d/pid --userns /proc/42/ns/user --netns /proc/42/ns/net"},
		{"pasta@/p", published, "/p --config-net -t 80-80:80-80 -u 53-53:53-53 -T none -U none --no-map-gw --dns-forward 169.254.1.1 --quiet -m 1500 -P /d/pid --userns /proc/42/ns/user --netns /proc/42/ns/net"},
		{"slirp4netns@/s", back, "/s --mtu=1500 --enable-ipv6 -c -r 3 --enable-sandbox --enable-seccomp 42 tap0"},
		{"slipway@/s", back, "/s attach --mtu 1500 --ready-fd 3 --api /d/api --host-loopback 10.0.2.2 --host-loopback fd00::2 42"},
		{"pasta@/p", back, "/p --config-net -t none -u none -T none -U none --dns-forward 169.254.1.1 --quiet -m 1500 -P /d/pid --userns /proc/42/ns/user --netns /proc/42/ns/net"},
		{"gvisor-tap-vsock@/r", back, "/r --state-dir=/d/state --net=gvisor-tap-vsock --mtu=1500 --port-driver=builtin --copy-up=/etc --copy-up=/run --propagation=rslave /b stage:endpoint"},
		{"rootlesskit@/r+--debug", j, "/r --state-dir=/d/state --net=slirp4netns --slirp4netns-sandbox=auto --slirp4netns-seccomp=auto " + rootlesskit + " --debug /b stage:endpoint"},
		{"gvisor-tap-vsock@/r", published, "/r --state-dir=/d/state --net=gvisor-tap-vsock " + rootlesskit + " /b stage:endpoint"},
	}
	for _, tt := range tests {
		t.Run(tt.subject, func(t *testing.T) {
			s, err := ParseSubject(tt.subject)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, strings.Join(s.commands(tt.job)[0], " ")); diff != "" {
				t.Errorf("command (-want +got):\n%s", diff)
			}
		})
	}
}
