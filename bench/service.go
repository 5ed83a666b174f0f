// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Ports of the peer's service. Several TCP ports let a client that makes many
// short connections find a free local port for longer.
const (
	tcpPortFirst = 7001
	tcpPorts     = 64
	udpPortPeer  = 7101
	udpPortEcho  = 7102
)

// The first byte that a client sends says what it wants of the connection.
const (
	wantSink   = 'S' // the server reads and counts until the end
	wantSource = 'G' // the server writes until the end
	wantEcho   = 'E' // four bytes of length follow; the server echoes messages of it
	wantShort  = 'C' // the server answers with one byte and waits for the end
	wantClose  = 'X' // the server answers with one byte and closes
)

// Sizes of one read or write, in bytes. They are large so that the cost of the
// system calls does not hide the cost of the path.
const (
	writeSize = 128 << 10
	readSize  = 128 << 10
	maxEcho   = 1 << 20
)

// A service is the peer's TCP side. The zero service is not usable.
type service struct {
	got             atomic.Int64 // bytes that sinks have read
	put             atomic.Int64 // bytes that sources have written
	firstCongestion atomic.Value // string: that of the first connection
	lastClient      atomic.Value // netip.AddrPort: of the last connection with an echo
}

// startService listens on all TCP ports of the addresses, by default of all, until the
// process ends.
func startService(addrs ...string) (*service, error) {
	s := new(service)
	if len(addrs) == 0 {
		addrs = []string{""}
	}
	for _, addr := range addrs {
		for i := range tcpPorts {
			l, err := net.Listen("tcp", net.JoinHostPort(addr, strconv.Itoa(tcpPortFirst+i)))
			if err != nil {
				return nil, fmt.Errorf("listen: %w", err)
			}
			go s.accept(l.(*net.TCPListener))
		}
	}
	return s, nil
}

func (s *service) accept(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		go s.serve(c)
	}
}

func (s *service) serve(c *net.TCPConn) {
	var want [1]byte
	if _, err := io.ReadFull(c, want[:]); err != nil {
		c.Close()
		return
	}
	switch want[0] {
	case wantSink:
		withFD(c, func(fd int) { sink(fd, &s.got) })
	case wantSource:
		withFD(c, func(fd int) { source(fd, &s.put) })
	case wantEcho:
		s.noteCongestion(c)
		s.lastClient.Store(c.RemoteAddr().(*net.TCPAddr).AddrPort())
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			c.Close()
			return
		}
		if n := binary.BigEndian.Uint32(size[:]); n <= maxEcho {
			echo(c, int(n))
		}
		c.Close()
	case wantShort:
		c.Write(want[:])
		c.Read(want[:])
		c.Close()
	case wantClose:
		c.Write(want[:])
		c.Close()
	default:
		c.Close()
	}
}

// noteCongestion keeps the congestion control of the first connection.
func (s *service) noteCongestion(c *net.TCPConn) {
	if name, err := connCongestion(c); err == nil {
		s.firstCongestion.CompareAndSwap(nil, name)
	}
}

func connCongestion(c *net.TCPConn) (string, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	var (
		name   string
		optErr error
	)
	if err := raw.Control(func(fd uintptr) { name, optErr = congestionOf(int(fd)) }); err != nil {
		return "", err
	}
	return name, optErr
}

// echo sends back messages of n bytes until the end. A connection that rests here
// costs a goroutine, not a thread, so that thousands of them can be held.
func echo(c *net.TCPConn, n int) {
	buf := make([]byte, n)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// sink reads until the end or an error and adds what it got to n.
func sink(fd int, n *atomic.Int64) {
	buf := make([]byte, readSize)
	for {
		got, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if got <= 0 || err != nil {
			return
		}
		n.Add(int64(got))
	}
}

// source writes until an error and adds what it wrote to n. A write is counted
// before it begins, so that no receiver can count it earlier.
func source(fd int, n *atomic.Int64) {
	buf := make([]byte, writeSize)
	for {
		n.Add(writeSize)
		wrote, err := unix.Write(fd, buf)
		n.Add(int64(max(wrote, 0)) - writeSize)
		if err != nil && err != unix.EINTR {
			return
		}
	}
}

// withFD takes the connection out of the Go runtime's poller and runs f on its
// blocking descriptor, which it closes afterwards: bulk data then costs one system
// call per buffer and no wakeups in between.
func withFD(c *net.TCPConn, f func(fd int)) {
	fd, err := takeFD(c)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	f(fd)
}

// takeFD returns a blocking descriptor of the connection, owned by the caller, and
// closes c.
func takeFD(c *net.TCPConn) (int, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("take descriptor: %w", err)
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(s uintptr) {
		fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, fmt.Errorf("take descriptor: %w", err)
	}
	if dupErr != nil {
		return -1, fmt.Errorf("take descriptor: %w", dupErr)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make descriptor blocking: %w", err)
	}
	return fd, nil
}
