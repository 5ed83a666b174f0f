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
	spare     [len(families)][]spareSocket
	first     uint16 // of that
	last      uint16 // … 0 where it is not known, or of no use
	open      bool
}

// A spareSocket was given back. It is still bound to the address, without a port.
type spareSocket struct {
	fd   int
	from netip.Addr
}

// maxSpare is how many sockets that have been used are kept for another connection, of
// each family: about as many as end before the next begin, on a busy server.
const maxSpare = 64

// NewFactory takes what Inside has opened in the container. At least one family works
// if it returns no error. It needs a capability, as Inside does; the rest does not.
func NewFactory(in tap.Opened) (*Factory, error) {
	if len(in.Sockets) != sockCount {
		return nil, errors.New("nothing was opened in the container to make sockets there")
	}
	c := &Factory{}
	// Not to know them means to make each socket anew.
	c.first, c.last, _ = LocalPorts(in)
	var errs []error
	for i, f := range families {
		c.listeners[i], c.seeds[i] = in.Sockets[sockFactory4+i].FD, in.Sockets[sockSeed4+i].FD
		err := errors.Join(in.Sockets[sockFactory4+i].Err, in.Sockets[sockSeed4+i].Err)
		if err == nil {
			err = f.setOptions(c.listeners[i])
			// What is accepted has it too (settingMarks).
			_ = unix.SetsockoptInt(c.listeners[i], unix.SOL_SOCKET, unix.SO_MARK, int(mark))
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
	// What is accepted is to be bound without a port (Dial). A kernel without that makes
	// a new socket each time.
	_ = unix.SetsockoptInt(c.listeners[i], unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
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

// Ours reports whether a is where a Factory of what Inside has opened listens in the
// container. Any goroutine may ask.
func Ours(in tap.Opened, a netip.AddrPort) bool {
	if len(in.Sockets) != sockCount {
		return false
	}
	for _, s := range in.Sockets[sockFactory4 : sockFactory6+1] {
		if s.Err == nil && name(s.FD) == a {
			return true
		}
	}
	return false
}

// LocalPorts returns the range that the container's kernel chooses ports from
// (ip_local_port_range of ip(7)), of what Inside has opened.
func LocalPorts(in tap.Opened) (first, last uint16, err error) {
	if len(in.Files) <= filePorts {
		return 0, 0, errors.New("the container's range of ports was not opened")
	}
	var b [32]byte
	n, err := unix.Pread(in.Files[filePorts].FD, b[:], 0)
	if err != nil {
		return 0, 0, fmt.Errorf("read the container's range of ports: %w", err)
	}
	if _, err := fmt.Sscan(string(b[:n]), &first, &last); err != nil {
		return 0, 0, fmt.Errorf("read the container's range of ports: %w", err)
	}
	return first, last, nil
}

// Dial starts a connection of the container's to the address, as if it came from the
// other, which need not be the container's; port 0 is any. It returns the socket, which
// is the caller's, non-blocking, and connected when it can be written. One that was
// given back is known to epoll(7) already. The errors are bare: EAGAIN where the kernel
// needs a moment for the socket, ECONNABORTED where the container keeps it from us,
// EADDRINUSE where the address has such a connection or had one a moment ago, and those
// of connect(2).
func (c *Factory) Dial(from, to netip.AddrPort) (fd int, known bool, err error) {
	fd, bound, errno := c.socket(FamilyOf(to.Addr()))
	if errno != 0 {
		return -1, false, errno
	}
	known = bound.IsValid()
	if !c.reusable(from.Port()) || !c.hint(fd, bound, from, to) {
		if errno = call(unix.SYS_BIND, fd, from); errno == 0 {
			errno = call(unix.SYS_CONNECT, fd, to)
		}
	}
	switch errno {
	case 0, unix.EINPROGRESS:
		// Where nobody listens, a port that the kernel chooses may be the very one: then
		// the socket has connected to itself (RFC 9293 §3.5, simultaneous open).
		if from.Port() != 0 || name(fd) != to {
			return fd, known, nil
		}
		errno = unix.ECONNREFUSED
	case unix.EADDRNOTAVAIL: // by connect(2): the tuple is in TIME_WAIT
		errno = unix.EADDRINUSE
	}
	unix.Close(fd)
	if known && errno == unix.EINVAL {
		// It has a port for good, by bind(2), since connect(2) could not choose that.
		return c.Dial(from, to)
	}
	return -1, false, errno
}

// reusable reports whether a socket that came from the port can have another connection.
// The port that bind(2) gives a socket, that has for good. But it may be bound without
// one, and connect(2) choose it, of a range of one (IP_LOCAL_PORT_RANGE of ip(7), Linux
// 6.3), which the kernel heeds where it lies in the container's own range.
func (c *Factory) reusable(port uint16) bool {
	return c.last != 0 && (port == 0 || c.first <= port && port <= c.last)
}

// hint binds the socket, where it is bound to another address, and connects it in such a
// way that it is reusable, and reports whether that went well. Else it is as it was.
func (c *Factory) hint(fd int, bound netip.Addr, from, to netip.AddrPort) bool {
	port := uint32(from.Port())
	wanted := port<<16 | port // 0 for any
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE,
		uintptr(unsafe.Pointer(&wanted)), unsafe.Sizeof(wanted), 0)
	if errno != 0 {
		c.last = 0 // this kernel is too old for it
		return false
	}
	if bound != from.Addr() {
		errno = call(unix.SYS_BIND, fd, netip.AddrPortFrom(from.Addr(), 0))
	}
	if errno == 0 {
		errno = call(unix.SYS_CONNECT, fd, to)
	}
	if errno != 0 && errno != unix.EINPROGRESS {
		return false
	}
	if port == 0 || name(fd) == from {
		return true
	}
	c.last = 0 // the container has changed its range
	disconnect(fd)
	return false
}

// GiveBack takes a socket of Dial's back, which came from the address and whose
// connection has ended, and reports whether it did: else it stays the caller's. To use it
// again costs a third of making another.
func (c *Factory) GiveBack(fd int, from netip.AddrPort) bool {
	i := FamilyOf(from.Addr())
	if len(c.spare[i]) >= maxSpare || !c.reusable(from.Port()) {
		return false
	}
	// Before, disconnecting would break off what is still to be delivered.
	if state(fd) != unix.BPF_TCP_CLOSE {
		return false
	}
	disconnect(fd)
	c.spare[i] = append(c.spare[i], spareSocket{fd, from.Addr()})
	return true
}

// Close closes the sockets that were given back. Dial may go on.
func (c *Factory) Close() {
	for i, spare := range c.spare {
		for _, s := range spare {
			unix.Close(s.fd)
		}
		c.spare[i] = nil
	}
}

// socket returns a socket that is neither bound to a port nor connected, and the address
// that it is bound to, which is invalid for a new one.
func (c *Factory) socket(i int) (fd int, bound netip.Addr, errno unix.Errno) {
	if n := len(c.spare[i]); n > 0 {
		s := c.spare[i][n-1]
		c.spare[i] = c.spare[i][:n-1]
		return s.fd, s.from, 0
	}
	fd, errno = c.make(i)
	return fd, netip.Addr{}, errno
}

// make makes one.
func (c *Factory) make(i int) (int, unix.Errno) {
	l := c.listeners[i]
	if l < 0 {
		return -1, unix.EAFNOSUPPORT
	}
	if !c.pending[i] {
		disconnect(c.seeds[i])
		switch errno := call(unix.SYS_CONNECT, c.seeds[i], c.at[i]); errno {
		case 0, unix.EINPROGRESS:
		case unix.ECONNREFUSED: // by the container's own rules: not what Dial's caller asked
			return -1, unix.ECONNABORTED
		default:
			return -1, errno
		}
		c.pending[i] = true
	}
	var peer unix.RawSockaddrInet6
	fd, errno := accept(l, &peer)
	if errno == unix.EAGAIN {
		if state(c.seeds[i]) != unix.BPF_TCP_CLOSE {
			return -1, errno
		}
		errno = unix.ECONNABORTED // it was refused, or has waited in vain
	}
	c.pending[i] = false
	if errno != 0 {
		return -1, errno
	}
	disconnect(fd)
	_ = setInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1) // see Greeted
	return fd, 0
}

// Greeted has a socket of Dial's, which has connected, tell the service so, where nothing
// was written to it yet. For it holds its acknowledgment of the service's SYN-ACK back,
// so that it can go with what the client has sent, which spares both a segment and the
// service a wake-up: that is what a client's TCP_DEFER_ACCEPT does
// (tcp_rcv_synsent_state_process of net/ipv4/tcp_input.c). Without either the service
// accepts 0.2 s later.
func Greeted(fd int) { _ = setInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }

// GiveUp ends the attempts to make a socket that are under way: the container may have
// lost their packets. The next one begins anew.
func (c *Factory) GiveUp() { c.pending = [len(families)]bool{} }

// name returns what a socket is bound to, or the zero AddrPort.
func name(fd int) netip.AddrPort {
	var sa unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return sockaddr.Get(&sa)
}

// state returns the state of a TCP socket (TCP_INFO of tcp(7)).
func state(fd int) byte {
	var state [1]byte
	size := uint32(len(state))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&state)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return state[0]
}

// setInt is setsockopt(2), without telling the scheduler.
func setInt(fd, level, key int, value int32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(key),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

// call is bind(2) or connect(2), without telling the scheduler: neither waits.
func call(number uintptr, fd int, a netip.AddrPort) unix.Errno {
	var sa unix.RawSockaddrInet6
	size := sockaddr.Put(&sa, a)
	_, _, errno := unix.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(size))
	runtime.KeepAlive(&sa)
	return errno
}
