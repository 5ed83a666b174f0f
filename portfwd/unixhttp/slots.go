// SPDX-License-Identifier: Apache-2.0

package unixhttp

import (
	"net"
	"sync"
)

// slots is a listener that has no more than cap(free) connections open.
type slots struct {
	net.Listener
	free   chan struct{}
	closed chan struct{}
	close  func()
}

func newSlots(l net.Listener, clients int) *slots {
	closed := make(chan struct{})
	return &slots{
		Listener: l, free: make(chan struct{}, clients),
		closed: closed, close: sync.OnceFunc(func() { close(closed) }),
	}
}

// Accept waits for a free slot, too.
func (l *slots) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &slotConn{Conn: c, free: sync.OnceFunc(func() { <-l.free })}, nil
}

// Close ends Accept, also where it waits for a slot: http.Server.Close waits for
// that before it closes any connection.
func (l *slots) Close() error {
	l.close()
	return l.Listener.Close()
}

// slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn
	free func()
}

// Close closes the connection.
func (c *slotConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
