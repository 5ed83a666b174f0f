// SPDX-License-Identifier: Apache-2.0

package portfwd_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/slipway-net/slipway/portfwd"
)

var equal = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

func TestParseRule(t *testing.T) {
	a := netip.MustParseAddr
	tests := []struct {
		name, in string
		want     portfwd.Rule // Proto TCP and Count 1 where left out
		str      string
	}{
		{"port alone", "80", portfwd.Rule{ContainerPort: 80}, "0:80/tcp"},
		{"host port 0", "0:80", portfwd.Rule{ContainerPort: 80}, "0:80/tcp"},
		{"host port empty", ":80", portfwd.Rule{ContainerPort: 80}, "0:80/tcp"},
		{"all empty", "::80", portfwd.Rule{ContainerPort: 80}, "0:80/tcp"},
		{"two ports", "8080:80", portfwd.Rule{HostPort: 8080, ContainerPort: 80}, "8080:80/tcp"},
		{"udp", "53:53/udp", portfwd.Rule{HostPort: 53, ContainerPort: 53, Proto: portfwd.UDP}, "53:53/udp"},
		{"ranges", "8000-8010:80-90", portfwd.Rule{HostPort: 8000, ContainerPort: 80, Count: 11}, "8000-8010:80-90/tcp"},
		{"range of one", "8000-8000:80", portfwd.Rule{HostPort: 8000, ContainerPort: 80}, "8000:80/tcp"},
		{"range chosen", "8000-8010", portfwd.Rule{ContainerPort: 8000, Count: 11}, "0:8000-8010/tcp"},
		{"range chosen by 0", "0:8000-8010/udp", portfwd.Rule{ContainerPort: 8000, Count: 11, Proto: portfwd.UDP}, "0:8000-8010/udp"},
		{"all ports", "1-65535:1-65535", portfwd.Rule{HostPort: 1, ContainerPort: 1, Count: 65535}, "1-65535:1-65535/tcp"},
		{"address", "127.0.0.1:8080:80", portfwd.Rule{Host: a("127.0.0.1"), HostPort: 8080, ContainerPort: 80}, "127.0.0.1:8080:80/tcp"},
		{"address empty", ":8080:80", portfwd.Rule{HostPort: 8080, ContainerPort: 80}, "8080:80/tcp"},
		{"address and no port", "127.0.0.1::80", portfwd.Rule{Host: a("127.0.0.1"), ContainerPort: 80}, "127.0.0.1:0:80/tcp"},
		{"IPv4 alone", "0.0.0.0:8080:80", portfwd.Rule{Host: a("0.0.0.0"), HostPort: 8080, ContainerPort: 80}, "0.0.0.0:8080:80/tcp"},
		{"IPv6 alone", "[::]:8080:80", portfwd.Rule{Host: a("::"), HostPort: 8080, ContainerPort: 80}, "[::]:8080:80/tcp"},
		{"IPv6", "[::1]:8080:80", portfwd.Rule{Host: a("::1"), HostPort: 8080, ContainerPort: 80}, "[::1]:8080:80/tcp"},
		{"IPv6 and no port", "[::1]::80", portfwd.Rule{Host: a("::1"), ContainerPort: 80}, "[::1]:0:80/tcp"},
		{"interface", "%eth0:8080:80", portfwd.Rule{Interface: "eth0", HostPort: 8080, ContainerPort: 80}, "%eth0:8080:80/tcp"},
		{"address and interface", "192.0.2.1%eth0:8080:80", portfwd.Rule{Host: a("192.0.2.1"), Interface: "eth0", HostPort: 8080, ContainerPort: 80}, "192.0.2.1%eth0:8080:80/tcp"},
		{"link-local", "[fe80::1]%eth0:8080:80", portfwd.Rule{Host: a("fe80::1"), Interface: "eth0", HostPort: 8080, ContainerPort: 80}, "[fe80::1]%eth0:8080:80/tcp"},
		{"interface of 15 bytes", "%abcdefghijklmno:1:2", portfwd.Rule{Interface: "abcdefghijklmno", HostPort: 1, ContainerPort: 2}, "%abcdefghijklmno:1:2/tcp"},
		{"container address", "8080:10.0.2.15:80", portfwd.Rule{HostPort: 8080, Container: a("10.0.2.15"), ContainerPort: 80}, "8080:10.0.2.15:80/tcp"},
		{"container address, port chosen", "0:10.0.2.15:80", portfwd.Rule{Container: a("10.0.2.15"), ContainerPort: 80}, "0:10.0.2.15:80/tcp"},
		{"container address, port empty", ":10.0.2.15:80", portfwd.Rule{Container: a("10.0.2.15"), ContainerPort: 80}, "0:10.0.2.15:80/tcp"},
		{"both addresses", "127.0.0.1:8080:[fd00::7]:80", portfwd.Rule{Host: a("127.0.0.1"), HostPort: 8080, Container: a("fd00::7"), ContainerPort: 80}, "127.0.0.1:8080:[fd00::7]:80/tcp"},
		{"everything", "[fd01::1]%eth0:1-2:[fd00::7]:3-4/tcp,defer", portfwd.Rule{Host: a("fd01::1"), Interface: "eth0", HostPort: 1, Container: a("fd00::7"), ContainerPort: 3, Count: 2, Defer: true}, "[fd01::1]%eth0:1-2:[fd00::7]:3-4/tcp,defer"},
		{"loopback", "80:80,loopback", portfwd.Rule{HostPort: 80, ContainerPort: 80, Loopback: true}, "80:80/tcp,loopback"},
		{"options turned round", "80:80,defer,loopback", portfwd.Rule{HostPort: 80, ContainerPort: 80, Loopback: true, Defer: true}, "80:80/tcp,loopback,defer"},
		{"loopback of udp", "80:80/udp,loopback", portfwd.Rule{HostPort: 80, ContainerPort: 80, Proto: portfwd.UDP, Loopback: true}, "80:80/udp,loopback"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want.Proto == "" {
				tt.want.Proto = portfwd.TCP
			}
			if tt.want.Count == 0 {
				tt.want.Count = 1
			}
			got, err := portfwd.ParseRule(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, equal); diff != "" {
				t.Errorf("ParseRule(%q) (-want +got):\n%s", tt.in, diff)
			}
			if got.String() != tt.str {
				t.Errorf("String() = %q, want %q", got, tt.str)
			}
			if again, err := portfwd.ParseRule(tt.str); err != nil || again != got {
				t.Errorf("ParseRule(%q) = %+v, %v; want the same rule", tt.str, again, err)
			}
		})
	}
}

func TestParseRuleRefuses(t *testing.T) {
	tests := []struct{ name, in, says string }{
		{"nothing", "", "not a number"},
		{"reversed range", "8010-8000:90-80", "runs backwards: want 80-90"},
		{"reversed host range", "8010-8000:80-90", "runs backwards: want 8000-8010"},
		{"longer host range", "8000-8010:80-85", "11 ports of the host cannot lead to 6 of the container"},
		{"host range to one port", "8000-8010:80", "want ranges of the same length"},
		{"host port to a range", "8000:80-85", "want ranges of the same length"},
		{"host range from 0", "0-5:80-85", "want 0 alone"},
		{"range of all and 0", "0-65535", "has the port 0"},
		{"70000", "70000:80", "from 0 to 65535"},
		{"70000 in the container", "80:70000", "from 0 to 65535"},
		{"port 0 in the container", "80:0", "the container's port is 0"},
		{"port 0 alone", "0", "the container's port is 0"},
		{"container range from 0", "0:0-5", "the container's port is 0"},
		{"no container port", "8080:", "container port \"\""},
		{"signed", "+80:80", "not a number"},
		{"spaces", " 80:80", "not a number"},
		{"name", "localhost:80:80", "is not an IP address"},
		{"unknown protocol", "80:80/icmp", "unknown protocol \"icmp\": want tcp or udp"},
		{"empty protocol", "80:80/", "unknown protocol \"\""},
		{"upper case", "80:80/TCP", "unknown protocol \"TCP\""},
		{"two protocols", "80:80/tcp/udp", "unknown protocol \"tcp/udp\""},
		{"sctp", "80:80/sctp", "sctp is not supported: want tcp or udp"},
		{"bad address", "127.0.0.256:80:80", "is not an IP address"},
		{"bad container address", "80:10.0.2:80", "is not an IP address"},
		{"IPv6 without brackets", "::1:8080:80", "too many fields"},
		{"IPv6 whole without brackets", "fd00::1:8080:80", "IPv6 address in brackets"},
		{"bracket open", "[::1:8080:80", "missing ]"},
		{"bracket around IPv4", "[127.0.0.1]:80:80", "brackets are for IPv6"},
		{"text after the bracket", "[::1]x:80:80", "is not an IP address"},
		{"zone", "[fe80::1%eth0]:80:80", "write the interface behind the address, as in [fe80::1]%eth0"},
		{"zone in the container", "80:[fe80::1%eth0]:80", "has a zone"},
		{"interface of the container", "80:10.0.2.15%tap0:80", "is not an IP address"},
		{"mapped", "[::ffff:127.0.0.1]:80:80", "write it as 127.0.0.1"},
		{"mapped in the container", "80:[::ffff:10.0.2.15]:80", "write it as 10.0.2.15"},
		{"multicast", "224.0.0.1:80:80", "is a group"},
		{"broadcast", "80:255.255.255.255:80", "is a group"},
		{"link-local without interface", "[fe80::1]:80:80", "name the interface, as in [fe80::1]%eth0"},
		{"no interface", "%:80:80", "no interface after %"},
		{"interface too long", "%abcdefghijklmnop:80:80", "more than 15 bytes"},
		{"interface with a space", "%a b:80:80", "cannot exist"},
		{"interface dot", "%..:80:80", "cannot exist"},
		{"two interfaces", "%a%b:80:80", "cannot exist"},
		{"whose address", "127.0.0.1:80", "Write 127.0.0.1::PORT if it is the host's, 0:127.0.0.1:PORT if the container's"},
		{"whose IPv6 address", "[::1]:80", "Write [::1]::PORT"},
		{"two addresses and one port", "127.0.0.1:10.0.2.15:80", "whose is the address"},
		{"interface and one port", "%eth0:80", "Write %eth0::PORT"},
		{"loopback plus address", "80:10.0.2.15:80,loopback", "leave out the address 10.0.2.15"},
		{"container loopback", "80:127.0.0.1:80", "append ,loopback"},
		{"container loopback of IPv6", "80:[::1]:80", "append ,loopback"},
		{"container unspecified", "80:0.0.0.0:80", "is none"},
		{"defer with udp", "80:80/udp,defer", "defer is for tcp"},
		{"option twice", "80:80,defer,defer", "given twice"},
		{"unknown option", "80:80,fast", "unknown option \"fast\": want loopback or defer"},
		{"empty option", "80:80,", "unknown option \"\""},
		{"protocol after option", "80:80,defer/tcp", "unknown option \"defer/tcp\""},
		{"too many fields", "1:2:3:4", "too many fields"},
		{"trailing junk", "80:80tcp", "not a number"},
		{"too long", strings.Repeat("1", 257), "257 bytes is too long: want at most 256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := portfwd.ParseRule(tt.in)
			if !errors.Is(err, portfwd.ErrRule) {
				t.Fatalf("ParseRule(%q) = %+v, %v; want ErrRule", tt.in, got, err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ParseRule(%q): %v; want it to say %q", tt.in, err, tt.says)
			}
			if got != (portfwd.Rule{}) {
				t.Errorf("ParseRule(%q) = %+v with an error", tt.in, got)
			}
		})
	}
}

// TestCheck is about rules that no text can make.
func TestCheck(t *testing.T) {
	good := portfwd.Rule{Proto: portfwd.TCP, HostPort: 65530, ContainerPort: 65530, Count: 6}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		edit func(*portfwd.Rule)
		says string
	}{
		{"no protocol", func(r *portfwd.Rule) { r.Proto = "" }, "unknown protocol"},
		{"no port", func(r *portfwd.Rule) { r.Count = 0 }, "for no port"},
		{"beyond the host's", func(r *portfwd.Rule) { r.HostPort++ }, "host's ports go beyond 65535"},
		{"beyond the container's", func(r *portfwd.Rule) { r.HostPort--; r.ContainerPort++ }, "container's ports go beyond 65535"},
		{"port 0", func(r *portfwd.Rule) { r.ContainerPort = 0 }, "port is 0"},
		{"hostile interface", func(r *portfwd.Rule) { r.Interface = "a\n80:80" }, `"a\n80:80"`},
		{"interface with a comma", func(r *portfwd.Rule) { r.Interface = "a,b" }, "not be written"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good
			tt.edit(&r)
			err := r.Check()
			if !errors.Is(err, portfwd.ErrRule) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Check: %v, want ErrRule that says %q in one line", err, tt.says)
			}
		})
	}
}

// FuzzParseRule finds that what is accepted is written as it is read, and that a
// message is one line of bounded length.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{
		"80", "0:80/udp", "127.0.0.1::80", "[::1]:8080:80", "8000-8010:10.0.2.15:80-90/tcp,loopback",
		"127.0.0.1%lo:8080:[fd00::7]:80,defer", "[fe80::1%eth0]:1:2", "%eth0:1-65535:1-65535", "::::", "[]:[]:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := portfwd.ParseRule(s)
		if err != nil {
			if msg := err.Error(); !errors.Is(err, portfwd.ErrRule) || len(msg) > 2048 || strings.ContainsAny(msg, "\n\r\x1b") {
				t.Fatalf("ParseRule(%q): %v", s, err)
			}
			return
		}
		if err := r.Check(); err != nil {
			t.Fatalf("ParseRule(%q) = %+v: %v", s, r, err)
		}
		if again, err := portfwd.ParseRule(r.String()); err != nil || again != r {
			t.Fatalf("ParseRule(%q).String() = %q, which parses as %+v, %v", s, r, again, err)
		}
	})
}
