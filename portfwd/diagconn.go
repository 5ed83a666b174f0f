// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// dumpSize is room for one datagram of a dump in bytes: the kernel makes none
	// that is larger (net/netlink/af_netlink.c, netlink_recvmsg).
	dumpSize = 32 << 10
	// maxDatagrams is how many of a dump are read. That is room for a million
	// sockets; who has more does it to keep us busy.
	maxDatagrams = 4096
)

// A diagConn is a sock_diag socket. It shows the sockets of the network namespace in
// which it was made, to anybody.
type diagConn struct {
	fd  int
	seq uint32
	buf []byte
}

// openDiagConn makes the kernel the socket's only peer: root in the container may
// send to any netlink socket there, and could forge answers; a connected one takes
// none but its peer's.
func openDiagConn(fd int) (*diagConn, error) {
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("connect sock_diag socket: %w", err)
	}
	return &diagConn{fd: fd, buf: make([]byte, dumpSize)}, nil
}

// dump calls each with the sockets that match. The kernel makes a dump while it is
// read, so this does not wait.
func (c *diagConn) dump(q diagQuery, each func(diagSocket)) error {
	if err := c.drain(); err != nil {
		return err
	}
	c.seq++
	if err := unix.Sendto(c.fd, q.encode(c.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask for a socket dump: %w", err)
	}
	for range maxDatagrams {
		b, err := c.receive()
		if err != nil {
			return err
		}
		last, err := parseDiag(b, c.seq, q.proto, each)
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("socket dump: the kernel has no %s_diag: sudo modprobe %[1]s_diag", protoName(q.proto))
		}
		if err != nil {
			return fmt.Errorf("socket dump: %w", err)
		}
		if last {
			return nil
		}
	}
	return fmt.Errorf("socket dump: more than %d datagrams", maxDatagrams)
}

// drain throws away what is left of a dump that was given up, or came before the
// socket was connected.
func (c *diagConn) drain() error {
	for range maxDatagrams {
		_, err := c.receive()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return err
		}
	}
	return fmt.Errorf("socket dump: the last one has not ended after %d datagrams", maxDatagrams)
}

// receive returns one datagram, which is valid until the next call.
func (c *diagConn) receive() ([]byte, error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(c.fd, c.buf, nil, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read socket dump: %w", err)
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue
		}
		if flags&unix.MSG_TRUNC != 0 {
			return nil, fmt.Errorf("read socket dump: a datagram of more than %d bytes", dumpSize)
		}
		return c.buf[:n], nil
	}
}

func protoName(proto uint8) Proto {
	if proto == unix.IPPROTO_UDP {
		return UDP
	}
	return TCP
}
