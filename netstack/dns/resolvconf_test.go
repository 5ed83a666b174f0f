// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/slipway-net/slipway/netstack/dns"
)

func TestParseResolvConf(t *testing.T) {
	tests := []struct {
		name, text string
		servers    []string
		search     []string
	}{
		{"empty", "", nil, nil},
		{"both families", "nameserver 192.0.2.1\nnameserver 2001:db8::1\n", []string{"192.0.2.1:53", "[2001:db8::1]:53"}, nil},
		{"zone", "nameserver fe80::1%eth0\n", []string{"[fe80::1%eth0]:53"}, nil},
		{"loopback", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", []string{"127.0.0.53:53"}, nil},
		{"mapped", "nameserver ::ffff:192.0.2.1\n", []string{"192.0.2.1:53"}, nil},
		{"twice", "nameserver 192.0.2.1\nnameserver 192.0.2.1\n", []string{"192.0.2.1:53"}, nil},
		{"comments", "# nameserver 192.0.2.1\n;nameserver 192.0.2.2\nnameserver 192.0.2.3 # mine\n", []string{"192.0.2.3:53"}, nil},
		{"tabs, no end of line", "nameserver\t192.0.2.1", []string{"192.0.2.1:53"}, nil},
		{"carriage returns", "nameserver 192.0.2.1\r\nsearch a.example\r\n", []string{"192.0.2.1:53"}, []string{"a.example"}},
		{"nonsense", "nameserver\nnameserver dns.example\nnameservers 192.0.2.1\nnameserver 192.0.2.1:53\n\x00\xff\n", nil, nil},
		{"many", strings.Repeat("nameserver 192.0.2.1\n", 3) + "nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\nnameserver 192.0.2.5\nnameserver 192.0.2.6\nnameserver 192.0.2.7\nnameserver 192.0.2.8\nnameserver 192.0.2.9\n",
			[]string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53", "192.0.2.4:53", "192.0.2.5:53", "192.0.2.6:53", "192.0.2.7:53", "192.0.2.8:53"}, nil},
		{"search", "search a.example b.example.\n", nil, []string{"a.example", "b.example"}},
		{"last search wins", "search a.example\nsearch b.example\n", nil, []string{"b.example"}},
		{"domain", "domain a.example b.example\n", nil, []string{"a.example"}},
		{"domain after search", "search a.example b.example\ndomain c.example\n", nil, []string{"c.example"}},
		{"bad domains", "search a..example $(x) " + strings.Repeat("a", 64) + " ok_1-x.example\n", nil, []string{"ok_1-x.example"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			servers, search := dns.ParseResolvConf(tt.text)
			if diff := cmp.Diff(tt.servers, texts(servers)); diff != "" {
				t.Errorf("servers (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.search, search, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("search (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolvConfChanges(t *testing.T) {
	const one, two = "nameserver 192.0.2.1\nsearch one.example\n", "nameserver 192.0.2.2\n"
	tests := []struct {
		name   string
		before string
		change func(t *testing.T, file string)
		want   string
	}{
		{"rewritten", one, func(t *testing.T, file string) { write(t, file, two+"#\n") }, "192.0.2.2:53"},
		{"replaced", one, func(t *testing.T, file string) {
			write(t, file+".new", "nameserver 192.0.2.2\nsearch two.example\n")
			rename(t, file+".new", file)
		}, "192.0.2.2:53"},
		{"emptied", one, func(t *testing.T, file string) { write(t, file, "") }, "192.0.2.1:53"},
		{"removed", one, func(t *testing.T, file string) { remove(t, file) }, "192.0.2.1:53"},
		{"made a directory", one, func(t *testing.T, file string) {
			remove(t, file)
			if err := os.Mkdir(file, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "192.0.2.1:53"},
		{"made a link", one, func(t *testing.T, file string) {
			write(t, file+".target", two)
			remove(t, file)
			if err := os.Symlink(file+".target", file); err != nil {
				t.Fatal(err)
			}
		}, "192.0.2.2:53"},
		{"made", "", func(t *testing.T, file string) { write(t, file, two) }, "192.0.2.2:53"},
		{"never there", "", func(*testing.T, string) {}, "127.0.0.1:53"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "resolv.conf")
			if tt.before != "" {
				write(t, file, tt.before)
			}
			f := mustNew(t, dns.Config{ResolvConf: file})
			now := time.Now()
			f.SetClock(func() time.Time { return now })
			was := texts(f.Servers())
			tt.change(t, file)
			if diff := cmp.Diff(was, texts(f.Servers())); diff != "" {
				t.Errorf("servers changed within the interval (-was +got):\n%s", diff)
			}
			now = now.Add(dns.StatInterval)
			if diff := cmp.Diff([]string{tt.want}, texts(f.Servers())); diff != "" {
				t.Errorf("servers (-want +got):\n%s", diff)
			}
			// Back again after whatever happened.
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			write(t, file, "nameserver 192.0.2.3\nsearch three.example\n")
			now = now.Add(dns.StatInterval)
			if diff := cmp.Diff([]string{"192.0.2.3:53"}, texts(f.Servers())); diff != "" {
				t.Errorf("servers in the end (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"three.example"}, f.Search()); diff != "" {
				t.Errorf("search in the end (-want +got):\n%s", diff)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nsearch a.example b.example\n")
	f.Add("domain x\nnameserver fe80::1%eth0\n;\n#\n")
	f.Fuzz(func(t *testing.T, text string) {
		servers, search := dns.ParseResolvConf(text)
		if len(servers) > 8 || len(search) > 32 {
			t.Fatalf("%d servers and %d domains", len(servers), len(search))
		}
		var again strings.Builder
		for _, s := range servers {
			again.WriteString("nameserver " + s.Addr().String() + "\n")
		}
		again.WriteString("search " + strings.Join(search, " ") + "\n")
		servers2, search2 := dns.ParseResolvConf(again.String())
		if diff := cmp.Diff(servers, servers2, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("servers (-first +again):\n%s", diff)
		}
		if diff := cmp.Diff(search, search2, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("search (-first +again):\n%s", diff)
		}
	})
}
