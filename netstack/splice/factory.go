// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/sockaddr"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// A Factory makes TCP sockets in the container's network namespace, which nobody
// can do by socket(2) who is not in it. But what a listener accepts is in the
// listener's, and once it is disconnected it is as good as new (tcp_disconnect of
// net/ipv4/tcp.c), so that each socket costs a handshake of the container's kernel
// with itself. The container may connect to the listener as well, and only gives us
// a socket by that.
//
// Its sockets may be bound to addresses that are not the container's
// (IP_TRANSPARENT). Make it with NewFactory, and Open it when the first is needed: from
// then on it has a port of the container's loopback. The descriptors stay their
// owner's. It is for one goroutine at a time.
type Factory struct {
	listeners [len(families)]int // -1 where the family is not there
	seeds     [len(families)]int // what connects to them
	at        [len(families)]netip.AddrPort
	pending   [len(families)]bool // the seed's connection was not accepted yet
	open      bool
}

// NewFactory takes what Inside has opened in the container. At least one family works
// if it returns no error. It needs a capability, as Inside does; the rest does not.
func NewFactory(in tap.Opened) (*Factory, error) {
	if len(in.Sockets) != sockCount {
		return nil, errors.New("nothing was opened in the container to make sockets there")
	}
	c := &Factory{}
	var errs []error
	for i, f := range families {
		c.listeners[i], c.seeds[i] = in.Sockets[sockFactory4+i].FD, in.Sockets[sockSeed4+i].FD
		err := errors.Join(in.Sockets[sockFactory4+i].Err, in.Sockets[sockSeed4+i].Err)
		if err == nil {
			err = f.setOptions(c.listeners[i])
		}
		if err != nil {
			c.listeners[i] = -1
			errs = append(errs, err)
		}
	}
	if len(errs) == len(families) {
		return nil, fmt.Errorf("make sockets in the container: %w", errors.Join(errs...))
	}
	return c, nil
}

// Open makes the factory ready for Dial. A family that the container's loopback does not
// have is left out. It may be called again.
func (c *Factory) Open() error {
	if c.open {
		return nil
	}
	c.open = true
	var errs []error
	for i, f := range families {
		if c.listeners[i] < 0 {
			continue
		}
		if err := c.listen(i, f.loopback); err != nil {
			c.listeners[i] = -1
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *Factory) listen(i int, addr netip.Addr) error {
	if err := listen(c.listeners[i], addr); err != nil {
		return err
	}
	sa, err := unix.Getsockname(c.listeners[i])
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	c.at[i] = addrPortOf(sa)
	return nil
}

// Listeners returns the descriptors of the listeners, for IPv4 and IPv6, -1 where
// there is none: when one can be read, what Dial had no socket for may be tried again.
func (c *Factory) Listeners() [2]int { return c.listeners }

// Dial starts a connection of the container's to the address, as if it came from the
// other, which need not be the container's; port 0 is any. It returns the socket, which
// is the caller's, non-blocking, and connected when it can be written. The errors are
// bare: EAGAIN where the kernel needs a moment for the socket, EADDRINUSE where the
// address has such a connection or had one a moment ago, and those of connect(2).
func (c *Factory) Dial(from, to netip.AddrPort) (int, error) {
	fd, errno := c.socket(FamilyOf(to.Addr()))
	if errno != 0 {
		return -1, errno
	}
	if errno = call(unix.SYS_BIND, fd, from); errno == 0 {
		errno = call(unix.SYS_CONNECT, fd, to)
	}
	switch errno {
	case 0, unix.EINPROGRESS:
		return fd, nil
	case unix.EADDRNOTAVAIL: // by connect(2): the tuple is in TIME_WAIT
		errno = unix.EADDRINUSE
	}
	unix.Close(fd)
	return -1, errno
}

// socket returns a socket that is neither bound nor connected.
func (c *Factory) socket(i int) (int, unix.Errno) {
	l := c.listeners[i]
	if l < 0 {
		return -1, unix.EAFNOSUPPORT
	}
	if !c.pending[i] {
		disconnect(c.seeds[i])
		if errno := call(unix.SYS_CONNECT, c.seeds[i], c.at[i]); errno != 0 && errno != unix.EINPROGRESS {
			return -1, errno
		}
		c.pending[i] = true
	}
	var peer unix.RawSockaddrInet6
	fd, errno := accept(l, &peer)
	if errno == unix.EAGAIN {
		return -1, errno
	}
	c.pending[i] = false
	if errno != 0 {
		return -1, errno
	}
	disconnect(fd)
	return fd, 0
}

// call is bind(2) or connect(2), without telling the scheduler: neither waits.
func call(number uintptr, fd int, a netip.AddrPort) unix.Errno {
	var sa unix.RawSockaddrInet6
	size := sockaddr.Put(&sa, a)
	_, _, errno := unix.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(size))
	runtime.KeepAlive(&sa)
	return errno
}
