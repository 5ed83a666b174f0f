// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"bytes"
	"testing"

	"github.com/slipway-net/slipway/netstack/dns"
	"golang.org/x/net/dns/dnsmessage"
)

func TestReceiveSize(t *testing.T) {
	q := query(t, 1, "a.example.")
	edns := func(size int) []byte {
		m := unpack(t, q)
		r := dnsmessage.Resource{Body: &dnsmessage.OPTResource{}}
		if err := r.Header.SetEDNS0(size, dnsmessage.RCodeSuccess, false); err != nil {
			t.Fatal(err)
		}
		m.Additionals = []dnsmessage.Resource{r}
		return pack(t, m)
	}
	tests := []struct {
		name  string
		query []byte
		want  int
	}{
		{"no edns", q, 4096},
		{"small", edns(512), 4096},
		{"large", edns(16384), 16384},
		{"largest", edns(65535), 65535},
		{"cut off", edns(16384)[:len(q)+5], 4096},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := dns.ReceiveSize(tt.query); got != tt.want {
				t.Errorf("%d bytes, want %d", got, tt.want)
			}
		})
	}
}

func FuzzMessages(f *testing.F) {
	q := query(f, 0x1234, "a.example.")
	f.Add(q, reply(f, q, 1, nil))
	f.Add(append(bytes.Clone(q[:12]), 0xc0, 12, 0, 1, 0, 1), q)
	f.Add(q[:12], []byte{})
	f.Fuzz(func(t *testing.T, q, a []byte) {
		if !dns.IsQuery(q) {
			return
		}
		if n := dns.ReceiveSize(q); n < 512 || n > 65535 {
			t.Fatalf("receive size %d", n)
		}
		_, ok := dns.Question(q)
		for _, code := range []dnsmessage.RCode{dnsmessage.RCodeFormatError, dnsmessage.RCodeServerFailure} {
			b := dns.Failure(q, code)
			if b == nil || dns.IsQuery(b) || len(b) > 512 || !bytes.Equal(b[:2], q[:2]) {
				t.Fatalf("failure for % x: % x", q, b)
			}
			if ok && !dns.Answers(b, q) {
				t.Fatalf("our own answer does not answer the query:\n% x\n% x", q, b)
			}
		}
		if ok && dns.Answers(a, q) && (len(a) < 12 || a[0] != q[0] || a[1] != q[1] || a[2]&0x80 == 0) {
			t.Fatalf("% x passes as the answer to % x", a, q)
		}
	})
}
