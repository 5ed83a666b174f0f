// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	before := soakSample{FDs: 12, Goroutines: 10, RSS: 12_000}
	good := soakSample{FDs: 12, Goroutines: 10, RSS: 12_000 + rssSlack,
		Counts: soakCounts{Bytes: 1, Conns: soakConnsLeast, UDP: soakUDP, DNS: soakDNS}}
	tests := []struct {
		name   string
		change func(*soakSample)
		fails  []string
	}{
		{"all well", func(*soakSample) {}, nil},
		{"a descriptor too many", func(s *soakSample) { s.FDs++ }, []string{"open files"}},
		{"a descriptor too few", func(s *soakSample) { s.FDs-- }, []string{"open files"}},
		{"a goroutine", func(s *soakSample) { s.Goroutines++ }, []string{"goroutines"}},
		{"memory", func(s *soakSample) { s.RSS++ }, []string{"memory (RSS)"}},
		{"flows of every kind", func(s *soakSample) { s.Other = 1 }, []string{"flows"}},
		{"a failure", func(s *soakSample) { s.Counts.Failed, s.Counts.FirstError = 1, "reset" }, []string{"failed exchanges"}},
		{"too little load", func(s *soakSample) { s.Counts = soakCounts{Conns: soakConnsLeast - 1} },
			[]string{"short TCP connections", "UDP exchanges", "DNS queries", "bytes of long streams"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after := good
			tt.change(&after)
			checks := judge(soakPeriod, before, after)
			var fails []string
			for _, c := range checks {
				if !c.OK {
					fails = append(fails, c.Name)
				}
			}
			if diff := cmp.Diff(tt.fails, fails); diff != "" {
				t.Errorf("failed checks (-want +got):\n%s", diff)
			}
			want := "PASS\n"
			if tt.fails != nil {
				want = "FAIL\n"
			}
			if got := verdict(checks); !strings.HasSuffix(got, "\n"+want) {
				t.Errorf("the verdict does not end with %q:\n%s", want, got)
			}
		})
	}
	if passed(nil) {
		t.Error("no checks have passed, want them to have failed")
	}
}

func TestShare(t *testing.T) {
	for d, want := range map[time.Duration]int{soakPeriod: 50_000, 20 * time.Second: 1667, time.Hour: 300_000} {
		if got := share(soakConnsLeast, d); got != want {
			t.Errorf("share in %s = %d, want %d", d, got, want)
		}
	}
}

// TestSoakExchanges lets the two sides of the load meet over loopback.
func TestSoakExchanges(t *testing.T) {
	listening(t, answerUDP(udpPortEcho, echoDatagram))
	self := netip.MustParseAddr("127.0.0.1")
	for _, n := range []int{0, 1, 199, 200, 201, 5000} {
		if err := udpExchange(self, n); err != nil {
			t.Errorf("exchange %d: %v", n, err)
		}
	}
	var load soakLoad
	client, server := tcpPair(t)
	go func() {
		echo(server, soakMessage)
		server.Close()
	}()
	if err := load.stream(client, time.Now().Add(2*soakPace)); err != nil {
		t.Error(err)
	}
	if c := load.counts(); c.Bytes < soakMessage || c.Bytes%soakMessage != 0 {
		t.Errorf("%d bytes came back, want some messages of %d", c.Bytes, soakMessage)
	}
}

func TestStreamSeesChange(t *testing.T) {
	var load soakLoad
	msg := string(pattern(soakMessage - 1))
	if _, err := load.verify(strings.NewReader("\x00\x00\x00\x00\x00\x00\x00\x00" + msg[8:] + "!")); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("error %v, want one about a change", err)
	}
	if _, err := load.verify(strings.NewReader(msg)); err == nil {
		t.Error("a message cut short was taken")
	}
}

// tcpPair returns both ends of a connection over loopback.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

func TestOpenFiles(t *testing.T) {
	before, err := openFiles(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	after, err := openFiles(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after != before+2 {
		t.Errorf("%d open files after a pipe, want %d + 2", after, before)
	}
}

func FuzzAnswerDNS(f *testing.F) {
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02n0\x04soak\x04test\x00\x00\x01\x00\x01"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		answer, err := answerDNS(b)
		if err == nil && len(answer) < 12 { // RFC 1035 §4.1.1
			t.Errorf("answer of %d bytes has no header", len(answer))
		}
	})
}
