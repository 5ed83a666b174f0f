// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMessages(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	want := message{Kind: kindHello, Names: []string{"a"}, Station: &testStation}
	for _, fd := range []int{-1, int(null.Fd())} {
		if err := send(pair[0], want, fd); err != nil {
			t.Fatal(err)
		}
		got, passed, err := receive(pair[1], make([]byte, maxMessage))
		if err != nil || passed >= 0 != (fd >= 0) {
			t.Errorf("receive: %v, descriptor %d, sent %d", err, passed, fd)
		}
		if passed >= 0 {
			unix.Close(passed)
		}
		if diff := cmp.Diff(fmt.Sprint(want.Kind, want.Names, *want.Station), fmt.Sprint(got.Kind, got.Names, *got.Station)); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
	}
	unix.Close(pair[0])
	if _, _, err := receive(pair[1], make([]byte, maxMessage)); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
}

// TestFullNetwork has the list of the fullest network fit into one message.
func TestFullNetwork(t *testing.T) {
	m := message{Kind: kindMembers}
	for i := range MaxMembers {
		r := Record{}
		for n := range MaxNames {
			r.Names = append(r.Names, fmt.Sprintf("%03d%060d", i, n))
		}
		for _, a := range station(testSubnets, byte(firstHost+i)).Addrs {
			r.Addrs = append(r.Addrs, a.Addr())
		}
		m.Members = append(m.Members, r)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > maxMessage {
		t.Errorf("%d bytes, a message has at most %d", len(b), maxMessage)
	}
	if _, err := parse(b); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "a": true, "Web-1_x.y": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, ".": false, "a..b": false, "a b": false, "a\n": false, "ä": false, strings.Repeat("a", 64): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := json.Marshal(message{Kind: kindWelcome, Station: &testStation, Members: []Record{{Names: []string{"a"}, Addrs: []netip.Addr{netip.IPv6Loopback()}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"kind":"hello","names":["a","b"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err == nil && (len(m.Names) > MaxNames || len(m.Members) > MaxMembers) {
			t.Errorf("taken beyond the limits: %v", m)
		}
		host := hostOf(testSubnets, m.Station)
		if host != 0 && (host < firstHost || host > lastHost) {
			t.Errorf("host number %d", host)
		}
	})
}

func FuzzSubnets(f *testing.F) {
	f.Add([]byte(`["10.89.0.0/24","fd12::/64"]`))
	f.Add([]byte(`["10.89.0.1/24","::/64"]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSubnets(b); err == nil {
			for host := byte(firstHost); host <= lastHost; host++ {
				st := station(s, host)
				if got := hostOf(s, &st); got != host {
					t.Errorf("host %d is taken for %d", host, got)
				}
			}
		}
	})
}

// TestSubnets gives each network its own, and the same network the same again.
func TestSubnets(t *testing.T) {
	all := t.TempDir()
	seen := map[string]bool{}
	for _, name := range []string{"a", "b", "c", "a"} {
		dir := filepath.Join(all, name)
		if err := makeDir(dir); err != nil {
			t.Fatal(err)
		}
		s, err := chooseSubnets(dir)
		if err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprint(s)] = true
	}
	if len(seen) != 3 {
		t.Errorf("three networks have the subnets %v", seen)
	}
	if err := forgetSubnets(filepath.Join(all, "a")); err != nil {
		t.Fatal(err)
	}
	if err := forgetSubnets(filepath.Join(all, "a")); err != nil {
		t.Errorf("forgotten again: %v", err)
	}
	if err := os.Mkdir(filepath.Join(all, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := chooseSubnets(filepath.Join(all, "d"))
	if err != nil || s[0] != netip.MustParsePrefix("10.89.0.0/24") {
		t.Errorf("the next network has %v, %v, want what is free", s, err)
	}
}
