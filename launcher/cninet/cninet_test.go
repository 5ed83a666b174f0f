// SPDX-License-Identifier: Apache-2.0

package cninet

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// write fills a new directory with files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	first := write(t, map[string]string{
		"00-broken.conflist": `{"name":`,
		"10-b.conflist":      `{"cniVersion":"1.0.0","name":"shop","plugins":[{"type":"b","capabilities":{"portMappings":true}}]}`,
		"05-a.conflist":      `{"cniVersion":"1.0.0","name":"shop","plugins":[{"type":"a"}]}`,
		"30.txt":             `{"cniVersion":"1.0.0","name":"text","plugins":[{"type":"a"}]}`,
		"40.conflist":        strings.Repeat(" ", maxConf+1),
	})
	if err := unix.Mkfifo(filepath.Join(first, "50.conflist"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := write(t, map[string]string{
		"b.conflist": `{"cniVersion":"1.0.0","name":"shop","plugins":[{"type":"c"}]}`,
		"c.conflist": `{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"c","capabilities":{"portMappings":true}}]}`,
	})
	for _, tt := range []struct{ name, plugin string }{{"shop", "a"}, {"other", "c"}} {
		l, err := find(tt.name, []string{"/nowhere", first, second})
		if err != nil || l.Plugins[0].Network.Type != tt.plugin {
			t.Errorf("%s: %+v, %v, want plugin %s", tt.name, l, err, tt.plugin)
			continue
		}
		if got, want := takes(l, capPorts), tt.name == "other"; got != want {
			t.Errorf("%s takes ports: %v", tt.name, got)
		}
		b, err := whole(l)
		if err != nil || !json.Valid(b) || !strings.Contains(string(b), `"type":"`+tt.plugin+`"`) {
			t.Errorf("%s as a whole: %s, %v", tt.name, b, err)
		}
	}
	if _, err := find("text", []string{second}); !errors.Is(err, ErrNoNetwork) || !strings.Contains(err.Error(), "--cni-dir") {
		t.Errorf("no network: %v", err)
	}
	if _, err := find("text", []string{first}); !errors.Is(err, ErrNoNetwork) || !strings.Contains(err.Error(), "00-broken.conflist") {
		t.Errorf("a broken file: %v", err)
	}
}

func TestDirs(t *testing.T) {
	env := map[string]string{"NETCONFPATH": "/a:/b", "HOME": "/h", "CNI_PATH": "/p"}
	getenv := func(name string) string { return env[name] }
	if diff := cmp.Diff([]string{"/a", "/b", "/h/.config/cni/net.d", "/etc/cni/net.d"}, ConfDirs(getenv)); diff != "" {
		t.Errorf("configurations (-want +got):\n%s", diff)
	}
	env["XDG_CONFIG_HOME"] = "/c"
	if got := ConfDirs(getenv)[2]; got != "/c/cni/net.d" {
		t.Errorf("with XDG_CONFIG_HOME: %s", got)
	}
	if got := PluginDirs(getenv); got[0] != "/p" || got[2] != "/h/.local/lib/cni" {
		t.Errorf("plugins: %q", got)
	}
	if got := ConfDirs(func(string) string { return "" }); len(got) != 1 {
		t.Errorf("without variables: %q", got)
	}
}

// result is what a plugin prints.
const result = `{"cniVersion":"1.0.0",
	"interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/proc/1/ns/net"}],
	"ips":[{"address":"10.0.0.1/24","interface":0},{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":1},
		{"address":"fd00::2/64","interface":9},{"address":"127.0.0.1/8","interface":1}],
	"dns":{"nameservers":["10.0.0.1","fd00::1"],"domain":"a.test","options":["ndots:1","x\ny","two words",""]}}`

func parse(b []byte) (*types100.Result, error) {
	r, err := types100.NewResult(b)
	if err != nil {
		return nil, err
	}
	return types100.NewResultFromResult(r)
}

func TestResultOf(t *testing.T) {
	r, err := parse([]byte(result))
	if err != nil {
		t.Fatal(err)
	}
	got, err := resultOf(r)
	if err != nil {
		t.Fatal(err)
	}
	want := Result{
		Addrs:    []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
		Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		DNS:      []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
		Search:   []string{"a.test"}, Options: []string{"ndots:1"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.DNS.Nameservers = []string{"10.0.0.1\noptions x"}
	if _, err := resultOf(r); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a name server that is none: %v", err)
	}
}

// FuzzResultOf has no result make more than one line of resolv.conf(5) of anything.
func FuzzResultOf(f *testing.F) {
	f.Add([]byte(result))
	f.Add([]byte(`{"cniVersion":"1.0.0","ips":[{"address":"::ffff:1.2.3.4/120"},{"address":"1.2.3.4/24","interface":-1}],"dns":{"search":["a b"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		got, err := resultOf(r)
		if err != nil {
			return
		}
		for _, p := range got.Addrs {
			if !p.IsValid() || p.Addr().Is4In6() || p.Addr().IsLoopback() {
				t.Errorf("address %v", p)
			}
		}
		for _, w := range append(got.Search, got.Options...) {
			if len(strings.Fields(w)) != 1 {
				t.Errorf("%q is not one word", w)
			}
		}
	})
}

func TestOneLine(t *testing.T) {
	if got := oneLine(errors.New("a\n b\r\n\tc" + strings.Repeat("d", 2*maxError))); !strings.HasPrefix(got, "a b cd") || len(got) != maxError {
		t.Errorf("%q", got)
	}
}

// TestSweep removes what was not begun, and leaves alone what somebody has.
func TestSweep(t *testing.T) {
	state := filepath.Join(t.TempDir(), "cni")
	if err := Sweep(state); err != nil {
		t.Errorf("without a directory: %v", err)
	}
	held, err := newPlace(state, "held")
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	for _, note := range []string{"", `{"command":`} {
		left, err := newPlace(state, "left")
		if err != nil {
			t.Fatal(err)
		}
		if note != "" {
			if err := os.WriteFile(filepath.Join(left.path, noteFile), []byte(note), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		left.close()
		if err := Sweep(state); err != nil {
			t.Error(err)
		}
		entries, err := os.ReadDir(state)
		if err != nil || len(entries) != 1 || entries[0].Name() != "held" {
			t.Errorf("after the note %q: %v, %v", note, entries, err)
		}
	}
	if err := os.Chmod(state, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := newPlace(state, "x"); err == nil {
		t.Error("a directory that others may write to was taken")
	}
}
