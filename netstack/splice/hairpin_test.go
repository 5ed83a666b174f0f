// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(attachtest.Main(m)) }

const testTap = "tap0"

// opened makes in a container what tap.Open does for Inside.
func opened(t testing.TB) (*attachtest.Place, tap.Opened) {
	t.Helper()
	attachtest.NeedTools(t, "nft")
	c := attachtest.NewContainer(t)
	c.Exec(t, "sh", "-ec", "ip link set lo up; ip link add "+testTap+" type veth peer name tap1; ip link set tap1 up; ip link set "+testTap+" up")
	return c, openedFor(t, c, testTap)
}

// openedFor makes what it does for an interface.
func openedFor(t testing.TB, c *attachtest.Place, ifname string) tap.Opened {
	t.Helper()
	in := Inside(ifname)
	out := tap.Opened{Settings: make([]error, len(in.Settings))}
	off := filepath.Join(t.TempDir(), "0")
	must(t, os.WriteFile(off, []byte("0\n"), 0o600))
	for range in.Files {
		fd, err := unix.Open(off, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		out.Files = append(out.Files, tap.File{FD: fd})
	}
	for _, s := range in.Sockets {
		f := c.Socket(t, s.Domain, s.Type|unix.SOCK_NONBLOCK, s.Protocol)
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(t, errors.Join(err, f.Close(), unix.SetNonblock(fd, true)))
		out.Sockets = append(out.Sockets, tap.File{FD: fd})
	}
	t.Cleanup(func() {
		for _, f := range append(out.Files, out.Sockets...) {
			unix.Close(f.FD)
		}
	})
	return out
}

// TestCloseLeavesAnothers has two sessions in a namespace, whose rule and routes are the
// same: they go with the last one.
func TestCloseLeavesAnothers(t *testing.T) {
	c, in := opened(t)
	first, err := New(testTap, in, UntilClose)
	must(t, err)
	second, err := New("tap1", openedFor(t, c, "tap1"), UntilClose)
	must(t, err)
	marked := func() string {
		return c.Exec(t, "sh", "-c", fmt.Sprintf("for v in -4 -6; do ip $v rule | grep -c fwmark; ip $v route show table %d 2> /dev/null | grep -c default; done; true", routeTable))
	}
	must(t, first.Close())
	if got := marked(); got != "1\n1\n1\n1\n" {
		t.Errorf("rules and routes that are left to the second: %q", got)
	}
	must(t, second.Close())
	if got := marked(); got != "0\n0\n0\n0\n" {
		t.Errorf("rules and routes that are left to nobody: %q", got)
	}
}

// listed returns how many tuples are in the sets.
func listed(t testing.TB, c *attachtest.Place) int {
	t.Helper()
	n := 0
	for _, family := range []string{"ip", "ip6"} {
		var out struct {
			Nftables []struct {
				Set struct {
					Elem []json.RawMessage `json:"elem"`
				} `json:"set"`
			} `json:"nftables"`
		}
		must(t, json.Unmarshal([]byte(c.Exec(t, "nft", "-j", "list", "set", family, tablePrefix+testTap, setName)), &out))
		for _, o := range out.Nftables {
			n += len(o.Set.Elem)
		}
	}
	return n
}

// tuples returns n tuples from the port on, of both families in turn.
func tuples(from, n int) []Tuple {
	var out []Tuple
	for i := range n {
		a, b := netip.MustParseAddr("10.0.2.100"), netip.MustParseAddr("192.0.2.1")
		if i%2 == 1 {
			a, b = netip.MustParseAddr("fd00::100"), netip.MustParseAddr("2001:db8::1")
		}
		out = append(out, Tuple{netip.AddrPortFrom(a, uint16(from+i/2)), netip.AddrPortFrom(b, 80)})
	}
	return out
}

// TestInclude takes out tuples, some of which are not there.
func TestInclude(t *testing.T) {
	for _, tt := range []struct {
		name         string
		there, taken []Tuple
		left         int
	}{
		{"none", tuples(1, 2), nil, 2},
		{"all", tuples(1, 10), tuples(1, 10), 0},
		{"one that is not there", tuples(1, 10), tuples(100, 1), 10},
		{"some that are not there", tuples(1, 10), append(tuples(100, 5), append(tuples(1, 10), tuples(200, 3)...)...), 0},
		{"more than go into a message", tuples(1, 3*maxElements+1), tuples(1, 3*maxElements+1), 0},
		{"more, of which one is not there", tuples(1, 3*maxElements), append(tuples(9000, 1), tuples(1, 3*maxElements)...), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, in := opened(t)
			h, err := New(testTap, in, UntilClose)
			must(t, err)
			must(t, h.Install(tt.there))
			if got := listed(t, c); got != len(tt.there) {
				t.Fatalf("%d tuples were installed, want %d", got, len(tt.there))
			}
			must(t, h.Include(tt.taken))
			if got := listed(t, c); got != tt.left {
				t.Errorf("%d tuples are left, want %d", got, tt.left)
			}
			must(t, h.Close())
		})
	}
}

// TestHairpinRepeats sets up and tears down again and again, and over what another
// has left.
func TestHairpinRepeats(t *testing.T) {
	c, in := opened(t)
	clean := traces(t, c)
	for range 3 {
		h, err := New(testTap, in, UntilClose)
		must(t, err)
		if l := h.Listeners(); l[0] < 0 || l[1] < 0 {
			t.Errorf("the listeners are %v, want both", l)
		}
		for range 3 {
			must(t, h.Install(tuples(1, 4)))
			must(t, h.Forward())
		}
		if n := strings.Count(traces(t, c), fmt.Sprintf("fwmark %#x", mark)); n != 2 {
			t.Errorf("%d routing rules, want one for each family", n)
		}
		must(t, h.Close())
		must(t, h.Close())
		if got := traces(t, c); got != clean {
			t.Errorf("left behind:\n%s\nwant\n%s", got, clean)
		}
		in.Sockets[sockListen4], in.Sockets[sockListen6] = again(t, c, in.Sockets[sockListen4]), again(t, c, in.Sockets[sockListen6])
	}
}

// TestHairpinTableThere puts our table in the place of one that has its name.
func TestHairpinTableThere(t *testing.T) {
	c, in := opened(t)
	c.Exec(t, "sh", "-ec", fmt.Sprintf("nft add table ip %[1]s; nft add chain ip %[1]s theirs", tablePrefix+testTap))
	h, err := New(testTap, in, UntilClose)
	must(t, err)
	if got := traces(t, c); strings.Contains(got, "theirs") || strings.Count(got, "chain prerouting") != len(families) {
		t.Errorf("the rules are\n%s", got)
	}
	must(t, h.Close())
}

// again makes a socket of the same kind in place of one that listens.
func again(t testing.TB, c *attachtest.Place, old tap.File) tap.File {
	t.Helper()
	domain, err := unix.GetsockoptInt(old.FD, unix.SOL_SOCKET, unix.SO_DOMAIN)
	must(t, err)
	f := c.Socket(t, domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	must(t, errors.Join(unix.Dup3(int(f.Fd()), old.FD, unix.O_CLOEXEC), f.Close()))
	return old
}

func traces(t testing.TB, c *attachtest.Place) string {
	t.Helper()
	return c.Exec(t, "sh", "-c", "nft list ruleset; ip rule; ip -6 rule; ip route show table 1296 2>/dev/null; ip -6 route show table 1296 2>/dev/null; true")
}

// TestNewFails has something missing inside. IPv6 alone may be missing.
func TestNewFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		hide func(*tap.Opened)
		ok   bool
	}{
		{"nothing opened", func(in *tap.Opened) { *in = tap.Opened{} }, false},
		{"no nftables", func(in *tap.Opened) { in.Sockets[sockNetfilter].Err = unix.EPROTONOSUPPORT }, false},
		{"no routing", func(in *tap.Opened) { in.Sockets[sockRoute].Err = unix.EPERM }, false},
		{"no IPv4", func(in *tap.Opened) { in.Sockets[sockListen4].Err = unix.EMFILE }, false},
		{"a setting", func(in *tap.Opened) { in.Settings[0] = unix.EACCES }, false},
		{"no IPv6", func(in *tap.Opened) { in.Sockets[sockListen6] = tap.File{FD: -1, Err: unix.EAFNOSUPPORT} }, true},
		{"everything", func(*tap.Opened) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, in := opened(t)
			clean := traces(t, c)
			hidden := in
			hidden.Sockets, hidden.Settings = append([]tap.File(nil), in.Sockets...), append([]error(nil), in.Settings...)
			tt.hide(&hidden)
			h, err := New(testTap, hidden, UntilClose)
			if tt.ok != (err == nil) {
				t.Fatalf("New: %v, want success: %t", err, tt.ok)
			}
			if tt.ok {
				must(t, h.Close())
			} else if !errors.Is(err, ErrUnavailable) {
				t.Errorf("New: %v, want %v", err, ErrUnavailable)
			}
			if got := traces(t, c); got != clean {
				t.Errorf("left behind:\n%s\nwant\n%s", got, clean)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestUntilNamespace leaves the rules to their namespace, also when the socket is closed.
func TestUntilNamespace(t *testing.T) {
	c, in := opened(t)
	h, err := New(testTap, in, UntilNamespace)
	must(t, err)
	if h.life != UntilNamespace {
		t.Skip("this kernel is older than Linux 6.9: no tables that persist")
	}
	must(t, h.Close())
	// Which closes the socket: this is its last descriptor.
	must(t, unix.Dup3(in.Files[filePorts].FD, in.Sockets[sockNetfilter].FD, unix.O_CLOEXEC))
	if out := c.Exec(t, "nft", "list", "tables"); !strings.Contains(out, tablePrefix+testTap) {
		t.Errorf("the tables are %q, want ours among them", out)
	}
}
