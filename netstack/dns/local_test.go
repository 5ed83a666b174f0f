// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// localAnswer asks a Forwarder that knows local names and has no server.
func localAnswer(t *testing.T, known func(string) []netip.Addr, name string, kind dnsmessage.Type, class dnsmessage.Class) ([]byte, dnsmessage.Message) {
	t.Helper()
	f, err := New(Config{Upstream: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, Local: known})
	if err != nil {
		t.Fatal(err)
	}
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: class}},
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer := f.Exchange(context.Background(), b, false)
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	if m.ID != 7 || !m.Response || len(m.Questions) != 1 {
		t.Errorf("the answer is %+v", m.Header)
	}
	if s := f.Stats(); s.Queries != 1 {
		t.Errorf("%d queries counted", s.Queries)
	}
	return answer, m
}

func TestLocal(t *testing.T) {
	known := func(name string) []netip.Addr {
		if !strings.EqualFold(name, "web") {
			return nil
		}
		return []netip.Addr{netip.MustParseAddr("10.89.0.2"), netip.MustParseAddr("fd00::2")}
	}
	for _, tt := range []struct {
		name    string
		kind    dnsmessage.Type
		class   dnsmessage.Class
		code    dnsmessage.RCode
		answers int
	}{
		{"web.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, 1},
		{"WEB.", dnsmessage.TypeAAAA, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, 1},
		{"web.", dnsmessage.TypeMX, dnsmessage.ClassINET, dnsmessage.RCodeSuccess, 0},
		// The rest goes to the servers, of which there is none that answers.
		{"web.", dnsmessage.TypeA, dnsmessage.ClassCHAOS, dnsmessage.RCodeServerFailure, 0},
		{"web.example.", dnsmessage.TypeA, dnsmessage.ClassINET, dnsmessage.RCodeServerFailure, 0},
	} {
		_, m := localAnswer(t, known, tt.name, tt.kind, tt.class)
		if m.RCode != tt.code || len(m.Answers) != tt.answers {
			t.Errorf("%s %v %v: %v with %d answers, want %v with %d", tt.name, tt.kind, tt.class, m.RCode, len(m.Answers), tt.code, tt.answers)
		}
	}
}

// TestLocalMany keeps the answer of a name of many within what every client takes.
func TestLocalMany(t *testing.T) {
	const least = 512
	var all []netip.Addr
	for i := range 100 {
		all = append(all, netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}))
	}
	label := strings.Repeat("a", maxLabel)
	name := label + "." + label + "." + label + "." + strings.Repeat("a", 60) + "."
	b, m := localAnswer(t, func(string) []netip.Addr { return all }, name, dnsmessage.TypeAAAA, dnsmessage.ClassINET)
	if len(b) > least || len(m.Answers) != maxLocal {
		t.Errorf("%d bytes with %d answers, want %d in %d bytes", len(b), len(m.Answers), maxLocal, least)
	}
}
