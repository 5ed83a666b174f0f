// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// hexAddr writes an address as /proc/net/tcp does on this machine.
func hexAddr(s string) string {
	a := netip.MustParseAddrPort(s)
	b := a.Addr().AsSlice()
	var out strings.Builder
	for i := 0; i < len(b); i += 4 {
		fmt.Fprintf(&out, "%08X", binary.NativeEndian.Uint32(b[i:]))
	}
	return fmt.Sprintf("%s:%04X", out.String(), a.Port())
}

// procNet makes the text of /proc/net/tcp.
func procNet(lines ...string) string {
	return "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" + strings.Join(lines, "")
}

func procLine(local, remote string, state int, inode uint64) string {
	return fmt.Sprintf("   0: %s %s %02X 00000000:00000000 00:00000000 00000000 65534        0 %d 1 0000000000000000 20 4 30 10 -1\n",
		hexAddr(local), hexAddr(remote), state, inode)
}

var compareAddrs = cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})

func TestParseSockets(t *testing.T) {
	tests := []struct {
		name, in string
		want     []socket
		err      string
	}{
		{name: "none", in: procNet()},
		{name: "empty", in: ""},
		{
			name: "both families",
			in: procNet(procLine("10.97.0.1:40000", "10.97.0.2:7001", 1, 77), procLine("[::]:7101", "[::]:0", 7, 78),
				procLine("[::ffff:10.97.0.1]:7001", "[::ffff:10.97.0.2]:5", 6, 0)),
			want: []socket{
				{netip.MustParseAddrPort("10.97.0.1:40000"), netip.MustParseAddrPort("10.97.0.2:7001"), 1, 77},
				{netip.MustParseAddrPort("[::]:7101"), netip.MustParseAddrPort("[::]:0"), 7, 78},
				{netip.MustParseAddrPort("10.97.0.1:7001"), netip.MustParseAddrPort("10.97.0.2:5"), 6, 0},
			},
		},
		{name: "cut off", in: procNet("0: 0100007F:1F90 00000000:0000 0A\n"), err: "malformed line"},
		{name: "no address", in: procNet(strings.Replace(procLine("1.2.3.4:5", "1.2.3.4:6", 1, 1), hexAddr("1.2.3.4:5"), "0100:0005", 1)), err: "2 bytes"},
		{name: "no number", in: procNet(strings.Replace(procLine("1.2.3.4:5", "1.2.3.4:6", 1, 4711), "4711", "x", 1)), err: "malformed line"},
		{name: "no port", in: procNet(strings.Replace(procLine("1.2.3.4:5", "1.2.3.4:6", 1, 1), ":0005", "", 1)), err: "malformed line"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseSockets(tt.in)
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, compareAddrs); diff != "" {
				t.Errorf("sockets (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseSockets(f *testing.F) {
	f.Add(procNet(procLine("10.97.0.1:40000", "[::1]:7001", 1, 77)))
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseSockets(text); err == nil && len(got) > strings.Count(text, "\n")+1 {
			t.Errorf("%d sockets of %d lines", len(got), strings.Count(text, "\n")+1)
		}
	})
}

func TestMatchFlows(t *testing.T) {
	sock := func(local, remote string, state int, inode uint64) socket {
		return socket{netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote), state, inode}
	}
	at := func(proto, local, remote string) flow {
		return flow{proto, netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)}
	}
	const open, timeWait, unconnected = tcpEstablished, 6, 7
	known := map[string][]socket{
		"tcp": {
			sock("10.97.0.1:40000", "10.97.0.2:7001", timeWait, 0),
			sock("10.97.0.1:40001", "10.97.0.2:7001", open, 11),
			sock("127.0.0.1:7001", "127.0.0.1:5", open, 12),
			sock("127.0.0.1:5", "127.0.0.1:7001", open, 13), // the client's own end
		},
		"udp": {
			sock("0.0.0.0:50000", "0.0.0.0:0", unconnected, 21),
			sock("10.97.0.1:50001", "10.97.0.2:7101", open, 22),
			sock("10.97.0.1:50001", "10.97.0.9:7101", open, 23),
		},
	}
	tests := []struct {
		name  string
		flows []flow // as seen from outside
		want  []uint64
	}{
		{name: "no flow"},
		{name: "over", flows: []flow{at("tcp", "10.97.0.2:7001", "10.97.0.1:40000")}},
		{name: "the second is open", flows: []flow{at("tcp", "10.97.0.2:7001", "10.97.0.1:40000"), at("tcp", "10.97.0.2:7001", "10.97.0.1:40001")}, want: []uint64{11}},
		{name: "other port", flows: []flow{at("tcp", "10.97.0.2:7002", "10.97.0.1:40001")}},
		{name: "loopback: the server's end, not the client's", flows: []flow{at("tcp", "127.0.0.1:5", "127.0.0.1:7001")}, want: []uint64{12}},
		{name: "UDP, bound to no address", flows: []flow{at("udp", "[::]:7101", "10.97.0.1:50000")}, want: []uint64{21}},
		{name: "UDP, connected", flows: []flow{at("udp", "10.97.0.2:7101", "10.97.0.1:50001")}, want: []uint64{22}},
		{name: "UDP is not TCP", flows: []flow{at("udp", "10.97.0.2:7001", "10.97.0.1:40001")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []uint64
			for _, f := range matchFlows(tt.flows, known) {
				for _, s := range f.sockets {
					got = append(got, s.Inode)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("inodes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOwnSocketIsFound looks for a connection of this process in the ways in which
// the stage looks for a helper's.
func TestOwnSocketIsFound(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	flows, err := new(endpoint).flows()
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := hostSockets("tcp")
	if err != nil {
		t.Fatal(err)
	}
	own := []flow{}
	for _, f := range flows {
		if f.Local.String() == c.LocalAddr().String() {
			own = append(own, f)
		}
	}
	found := matchFlows(own, map[string][]socket{"tcp": sockets})
	if len(found) == 0 {
		t.Fatalf("flows %v: none is among %d sockets", flows, len(sockets))
	}
	inode := found[0].sockets[0].Inode
	if pid, err := found[0].sockets[0].owner([]int{1 << 30, os.Getpid()}); pid != os.Getpid() {
		t.Errorf("owner %d, %v: want %d", pid, err, os.Getpid())
	}
	if has, err := hasHidden(os.Getpid(), inode); !has {
		t.Errorf("not found by pidfd_getfd: %v", err)
	}
	for _, find := range []func(int, uint64) (bool, error){hasSocket, hasHidden} {
		if has, err := find(os.Getpid(), 1<<62); has || err != nil {
			t.Errorf("a socket that nobody has: found %v, error %v", has, err)
		}
	}
}

func TestDescend(t *testing.T) {
	// 10 made 11 and 12, 12 made 13, which is the endpoint, with 14.
	parents := map[int]int{1: 0, 10: 1, 11: 10, 12: 10, 13: 12, 14: 13, 20: 1}
	if diff := cmp.Diff([]int{10, 11, 12}, descend(parents, 10, 13)); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestParseParent(t *testing.T) {
	tests := []struct {
		name, in    string
		pid, parent int
		err         bool
	}{
		{"plain", "7 (pasta) S 3 7 7", 7, 3, false},
		{"name with blank and parenthesis", "7 (a) b) 9) S 3 7", 7, 3, false},
		{"cut off", "7 (pasta) S", 0, 0, true},
		{"no name", "7 pasta S 3", 0, 0, true},
		{"no number", "x (pasta) S 3", 0, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pid, parent, err := parseParent([]byte(tt.in))
			if pid != tt.pid || parent != tt.parent || (err != nil) != tt.err {
				t.Errorf("got %d, %d, %v, want %d, %d, error %v", pid, parent, err, tt.pid, tt.parent, tt.err)
			}
		})
	}
}

func TestUnprovenCellIsFlagged(t *testing.T) {
	p := planFor(t, "-cases ^tcp/throughput/up/1$ -subjects pasta -mtu 1500 -cc cubic")
	r := throughput("pasta", 0, 9, 1)
	r.Proof = &Proof{Failed: "the socket is another's"}
	for _, c := range MakeCells(p, []Record{r}) {
		if c.Row.Metric.Name == "cpu_all" {
			continue // not in the record
		}
		if !c.Doubtful() || c.BestPeer != 0 || c.Direct != 0 {
			t.Errorf("%s: it is built upon: %+v", c.Row.Metric.Name, c)
		}
		if diff := cmp.Diff([]string{"not proven: the socket is another's"}, c.Flags); diff != "" {
			t.Errorf("%s: flags (-want +got):\n%s", c.Row.Metric.Name, diff)
		}
	}
}
