// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPublish has the examples of pasta(1), and what Podman and people write.
func TestPublish(t *testing.T) {
	for _, tt := range []struct {
		spec string
		want string // rules in slipway's words, then what is followed
	}{
		{"none", ""},
		{"22", "22:22/tcp"},
		{"22:23", "22:23/tcp"},
		{"22,25", "22:22/tcp 25:25/tcp"},
		{"22-80", "22-80:22-80/tcp"},
		{"22-80:32-90", "22-80:32-90/tcp"},
		{"192.0.2.1/22", "192.0.2.1:22:22/tcp"},
		{"192.0.2.1%eth0/22", "192.0.2.1%eth0:22:22/tcp"},
		{"2000-5000,~3000-3010", "2000-2999:2000-2999/tcp 3011-5000:3011-5000/tcp"},
		{"192.0.2.1/20-30,~25", "192.0.2.1:20-24:20-24/tcp 192.0.2.1:26-30:26-30/tcp"},
		{"~20000-20010", "auto/tcp,!20000-20010/tcp"},
		{"all", "auto/tcp"},
		{"auto", "auto/tcp"},
		{"auto,~22", "auto/tcp,!22/tcp"},
		{"%lo/auto", "%lo:auto/tcp"},
		{"8080-8080:80-80", "8080:80/tcp"},
		{"::1/8080-8080:80-80", "[::1]:8080:80/tcp"},
		{"[::1]/8080", "[::1]:8080:8080/tcp"},
		{"0.0.0.0/53:5353", "0.0.0.0:53:5353/tcp"},
		{"*/80", "80:80/tcp"},
		{"*%eth0/80", "%eth0:80:80/tcp"},
		{"fe80::1%eth0/80", "[fe80::1]%eth0:80:80/tcp"},
		{"8080:10.0.0.7", "8080:10.0.0.7:8080/tcp"},
		{"8080:10.0.0.7/80", "8080:10.0.0.7:80/tcp"},
		{"8080-8081:[fd00::7]/80-81", "8080-8081:[fd00::7]:80-81/tcp"},
		{"20-30:120-130,~25", "20-24:120-124/tcp 26-30:126-130/tcp"},
		{"80,auto", "80:80/tcp auto/tcp"},
	} {
		t.Run(tt.spec, func(t *testing.T) {
			o, err := Parse([]string{"-t", tt.spec, "-u", "none", "1"})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range o.ports[tcp].rules {
				got = append(got, r.String())
			}
			auto, err := o.follows()
			if err != nil {
				t.Fatal(err)
			}
			if auto != nil {
				got = append(got, auto.String())
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("-t %s (-want +got):\n%s", tt.spec, diff)
			}
		})
	}
}

func TestPublishErrors(t *testing.T) {
	for _, args := range [][]string{
		{"-t", ""}, {"-t", "0"}, {"-t", "65536"}, {"-t", "80-70"}, {"-t", "80:90-91"}, {"-t", "80-81:90"}, {"-t", "x"}, {"-t", "80,"},
		{"-t", "1.2.3/80"}, {"-t", "%/80"}, {"-t", "/80"}, {"-t", "~"}, {"-t", "-80"}, {"-t", "+80"}, {"-t", "80:"}, {"-t", "80:[::1"},
		{"-t", "fe80::1/80"}, {"-t", "224.0.0.1/80"}, {"-t", "80:127.0.0.1"}, {"-t", "all:10.0.0.1"}, {"-t", "none,80"},
		{"-t", "80", "-t", "none"}, {"-t", "none", "-t", "80"}, {"-t", "10.0.0.1/auto", "-t", "auto"},
		{"-t", strings.Repeat("1,", maxSpec)},
		{"-T", "127.0.0.1/80"}, {"-T", "80:127.0.0.1"}, {"-T", "1-100"}, {"-U", "53"}, {"-T", "%lo/80"},
	} {
		_, err := Parse(append(args, "1"))
		if _, ok := errors.AsType[*Error](err); !ok || strings.Contains(err.Error(), "\n") {
			t.Errorf("Parse(%.60q): error %v, want one line", args, err)
		}
	}
}

// TestFollows has what is published where only one option says what, or none.
func TestFollows(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"1", "auto"},
		{"-t auto -u auto 1", "auto"},
		{"-t none 1", "auto/udp"},
		{"-u 53 1", "auto/tcp"},
		{"-t ~22 -u ~53 1", "auto,!22/tcp,!53/udp"},
		{"-t 80 -u none 1", ""},
		{"--no-udp 1", "auto/tcp"},
		{"-t 10.0.0.1/auto 1", "error"},
	} {
		o, err := Parse(strings.Fields(tt.line))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if a, err := o.follows(); err != nil {
			got = "error"
		} else if a != nil {
			got = a.String()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.line, got, tt.want)
		}
	}
}

// TestReach has ports of the host's loopback.
func TestReach(t *testing.T) {
	o, err := Parse([]string{"-T", "6379,8000-8002:9000-9002,~8001", "-T", "auto", "-U", "auto", "1"})
	if err != nil {
		t.Fatal(err)
	}
	got := o.HostPorts()
	want := []struct{ port, host uint16 }{{6379, 6379}, {8000, 9000}, {8002, 9002}}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i, w := range want {
		if got[i].Port != w.port || got[i].Host != w.host {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// TestPublishOften has as many options as Podman gives for a container with many ports,
// one for each: what one of them costs does not depend on how many there were before.
func TestPublishOften(t *testing.T) {
	options := func(n int) (args []string) {
		for i := range n {
			args = append(args, "-t", fmt.Sprintf("%[1]d-%[1]d:%[1]d-%[1]d", 20000+i))
		}
		return append(args, "1")
	}
	cost := func(n int) float64 {
		args := options(n)
		return testing.AllocsPerRun(1, func() {
			if o, err := Parse(args); err != nil || len(o.ports[tcp].rules) != n {
				t.Fatalf("%d rules, error %v, want %d", len(o.ports[tcp].rules), err, n)
			}
		})
	}
	const few, many = 50, 500
	if a, b := cost(few), cost(many); b > a*many/few {
		t.Errorf("%d options take %v allocations, and %d take %v", few, a, many, b)
	}
}

// FuzzPorts wants an *Error, or rules that can be, for ports that were named.
func FuzzPorts(f *testing.F) {
	for _, s := range []string{"none", "all", "auto,~1", "22-80:32-90,~40", "192.0.2.1%eth0/22", "[::1]/1-2:[::2]/3-4", "*%lo/8:1.2.3.4", "~1-65535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for proto, flag := range []string{"-t", "-u"} {
			var p ports
			if err := p.publish(proto, flag, s); err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("%q: %v is no *Error", s, err)
				}
				continue
			}
			for _, r := range p.rules {
				if err := r.Check(); err != nil {
					t.Errorf("%q: %v", s, err)
				}
			}
			if p.auto != nil && p.auto.Check() != nil {
				t.Errorf("%q: %v", s, p.auto.Check())
			}
		}
		var p ports
		if err := p.reach(tcp, "-T", s); err == nil {
			for _, h := range p.host {
				if h.Port == 0 || h.Host == 0 {
					t.Errorf("%q: port 0", s)
				}
			}
		}
	})
}
