// SPDX-License-Identifier: Apache-2.0

package dns_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A server is an upstream resolver on loopback, over UDP and TCP at one port.
// answer gets each query and returns the messages to send back.
type server struct {
	addr    netip.AddrPort
	queries atomic.Int64
}

func newServer(t testing.TB, host string, answer func(query []byte, tcp bool) [][]byte) *server {
	t.Helper()
	udp, tcp := listenBoth(t, netip.MustParseAddr(host))
	s := &server{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			s.queries.Add(1)
			for _, m := range answer(b[:n:n], false) {
				udp.WriteToUDPAddrPort(m, from)
			}
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					q, err := readTCP(c)
					if err != nil {
						return
					}
					s.queries.Add(1)
					for _, m := range answer(q, true) {
						writeTCP(c, m)
					}
				}
			}()
		}
	}()
	return s
}

// listenBoth returns sockets at one port that is free for both.
func listenBoth(t testing.TB, host netip.Addr) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	for range 100 {
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { udp.Close() })
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(udp.LocalAddr().(*net.UDPAddr).AddrPort()))
		if err == nil {
			t.Cleanup(func() { tcp.Close() })
			return udp, tcp
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// closedPort returns an address that refuses queries. The port is kept from
// others by a socket that is connected elsewhere and so takes none.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	lo := net.IPv4(127, 0, 0, 1)
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: lo}, &net.UDPAddr{IP: lo, Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func readTCP(r io.Reader) ([]byte, error) {
	var l [2]byte
	if _, err := io.ReadFull(r, l[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(l[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeTCP(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}

// query returns a query for the address of name, with RD set.
func query(t testing.TB, id uint16, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{
			Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
		}},
	}
	return pack(t, m)
}

func pack(t testing.TB, m dnsmessage.Message) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpack(t testing.TB, b []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatalf("unpack % x: %v", b, err)
	}
	return m
}

// reply makes the answer to a query with the given last octet of an address,
// as edit would have it.
func reply(t testing.TB, q []byte, octet byte, edit func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := unpack(t, q)
	m.Response, m.RecursionAvailable = true, true
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
		Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, octet}},
	}}
	if edit != nil {
		edit(&m)
	}
	return pack(t, m)
}

// good answers everything with the octet.
func good(t testing.TB, octet byte) func([]byte, bool) [][]byte {
	return func(q []byte, _ bool) [][]byte { return [][]byte{reply(t, q, octet, nil)} }
}

// bad answers everything with the code and no record.
func bad(t testing.TB, code dnsmessage.RCode) func([]byte, bool) [][]byte {
	return func(q []byte, _ bool) [][]byte {
		return [][]byte{reply(t, q, 0, func(m *dnsmessage.Message) { m.RCode, m.Answers = code, nil })}
	}
}

// silent answers nothing.
func silent([]byte, bool) [][]byte { return nil }

func texts(servers []netip.AddrPort) []string {
	var ss []string
	for _, s := range servers {
		ss = append(ss, s.String())
	}
	return ss
}

func countFDs(t *testing.T) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}
