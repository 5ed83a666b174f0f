// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// lengthLen is the size of the length before a message on TCP, bytes (RFC 1035
// §4.2.2).
const lengthLen = 2

// errMismatch is what a TCP server's answer to another query makes of it.
var errMismatch = errors.New("the answer is not to our query")

// ask sends the query to one server from a socket of its own and returns the
// answer.
func (f *Forwarder) ask(ctx context.Context, server netip.AddrPort, query []byte, tcp bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	defer cancel()
	network := "udp"
	if tcp {
		network = "tcp"
	}
	conn, err := f.dialer(server.Addr(), tcp).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, fmt.Errorf("reach dns server %s: %w", server, err)
	}
	defer conn.Close()
	// The zero time plus a nanosecond is past: pending calls return at once.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(0, 1)) })
	defer stop()
	var answer []byte
	if tcp {
		answer, err = f.overTCP(conn, query)
	} else {
		answer, err = f.overUDP(conn, query)
	}
	if err != nil {
		return nil, fmt.Errorf("ask dns server %s: %w", server, err)
	}
	return answer, nil
}

// overUDP waits for an answer that is to the query until the deadline of conn,
// which the kernel has connected: datagrams of others do not get here.
func (f *Forwarder) overUDP(conn net.Conn, query []byte) ([]byte, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	b := make([]byte, receiveSize(query))
	for {
		n, err := conn.Read(b)
		if err != nil {
			return nil, err
		}
		if answers(b[:n], query) {
			return b[:n], nil
		}
		f.stats.mismatched.Add(1)
	}
}

func (f *Forwarder) overTCP(conn net.Conn, query []byte) ([]byte, error) {
	if err := writeMessage(conn, query); err != nil {
		return nil, err
	}
	b, err := readMessage(conn)
	if err != nil {
		return nil, err
	}
	if !answers(b, query) {
		f.stats.mismatched.Add(1)
		return nil, errMismatch
	}
	return b, nil
}

func (f *Forwarder) dialer(server netip.Addr, tcp bool) *net.Dialer {
	if onHost(server) {
		return &net.Dialer{}
	}
	d := &net.Dialer{Control: f.cfg.Control}
	local := f.local(server)
	switch {
	case !local.IsValid():
	case tcp:
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	default:
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return d
}

// writeMessage writes a message and its length in one call, so that they leave in
// one segment (RFC 7766 §8).
func writeMessage(w io.Writer, m []byte) error {
	b := make([]byte, lengthLen, lengthLen+len(m))
	binary.BigEndian.PutUint16(b, uint16(len(m)))
	_, err := w.Write(append(b, m...))
	return err
}

func readMessage(r io.Reader) ([]byte, error) {
	var l [lengthLen]byte
	if _, err := io.ReadFull(r, l[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(l[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
