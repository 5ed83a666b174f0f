// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An unprivileged process cannot send an ICMP error, but the host's kernel does, where
// no socket wants a datagram. So, when the container says that nobody listens there, the
// published socket is made deaf for a moment: it is bound to an interface that does not
// exist. Whatever comes in meanwhile is answered with "port unreachable", while the port
// stays taken: a socket that is bound to no interface cannot have it. The client whose
// datagram brought the container to say so hears of it with its next one.
//
// A plain user may bind a socket to an interface that is bound to none (Linux 5.7), and
// an AF_UNSPEC connect(2), which ends an association, ends that too (__udp_disconnect in
// net/ipv4/udp.c). A connection would not do: of an IPv6 socket the peer's address is
// still matched when it has ended.

const (
	// nowhere is the interface: index numbers are given out from 1 up.
	nowhere = 1<<31 - 1
	// deafFor is how long a port is deaf at least; the tick makes it up to twice that.
	// A client that tries again does so within that time, and one that comes when the
	// service has started waits no longer.
	deafFor = time.Second
	// hearFor is how long a port hears at least before it may be deaf again. The
	// container's word may hold for one client only, whom its firewall rejects: that one
	// must not be able to keep out the others, whose next try gets in then.
	hearFor = 2 * deafFor
	// heededFor is how long a client's datagrams must have been taken without complaint
	// to show that somebody listens, who need not answer. The complaint takes less than
	// a millisecond.
	heededFor = 100 * time.Millisecond
	// lately is how long an answer of the container's shows that somebody listens:
	// that at the address of the other family nobody does, or did for a moment, must
	// not deafen the port to all.
	lately = 5 * time.Second
)

// A deafness is the state of a port that does not hear. The zero deafness is that of
// one that does.
type deafness struct {
	since time.Duration
	until time.Duration // when the last one ended
	local unix.Sockaddr // what the socket is bound to; nil if it hears
}

// refused is called when the container said that nobody listens where the flow leads. Its
// client is tried at the other family; where it came from there, all are refused.
func (f *inboundFlow) refused() {
	f.port.n.inbound.udp.close(f)
	if !f.port.turn(f) {
		f.port.deafen(f.container)
	}
}

// deafen makes the host's kernel refuse what comes in, for a moment, unless somebody
// listens at that end of the container's or the other. Where it cannot be, clients hear nothing: on a socket that its rule has bound to an interface, which
// it would lose, and before Linux 5.7.
func (p *udpPort) deafen(at netip.AddrPort) {
	if p.deaf.local != nil || p.deaf.until != 0 && p.n.now-p.deaf.until < hearFor {
		return
	}
	if other := p.other(at); p.served(at) || other.IsValid() && p.served(other) {
		return
	}
	p.turned = [2]bool{}
	local, err := unix.Getsockname(p.FD)
	if err != nil || setOption(p.FD, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, nowhere) != 0 {
		return
	}
	p.deaf.since, p.deaf.local = p.n.now, local
	p.n.inbound.udp.deaf[p] = struct{}{}
}

// served reports whether somebody listens at that end of the container's, whatever it says
// of one client.
func (p *udpPort) served(at netip.AddrPort) bool {
	heard := &p.heard[familyOf(at)]
	if p.n.now-*heard < lately {
		return true
	}
	if !p.heeded(at) {
		return false
	}
	*heard = p.n.now
	return true
}

// heeded reports whether there is a client of whose datagrams nobody complained there
// lately. It looks at all of them at the worst, once in the time that a port is deaf and
// hears again.
func (p *udpPort) heeded(at netip.AddrPort) bool {
	for _, f := range p.clients {
		if f.container == at && p.n.now-f.created >= heededFor && p.n.now-f.last < lately {
			return true
		}
	}
	return false
}

// listen ends that.
func (p *udpPort) listen() {
	if p.deaf.local == nil {
		return
	}
	local := p.deaf.local
	p.deaf = deafness{until: p.n.now}
	delete(p.n.inbound.udp.deaf, p)
	if err := rebind(p.FD, local); err != nil {
		p.n.log.Error("a published port is lost; publish it again", "host", p.Host, "err", err)
	}
}

// rebind undoes what deafen has done to a socket that is bound to local.
func rebind(fd int, local unix.Sockaddr) error {
	if errno := disconnect(fd); errno != 0 {
		return os.NewSyscallError("connect", errno)
	}
	// A port that the kernel chose goes with the association.
	if now, err := unix.Getsockname(fd); err == nil && portOf(now) == 0 {
		return os.NewSyscallError("bind", unix.Bind(fd, local))
	}
	return nil
}

// disconnect ends a datagram socket's association (connect(2), AF_UNSPEC).
func disconnect(fd int) unix.Errno {
	var sa unix.RawSockaddrInet6 // its family is 0, AF_UNSPEC
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unix.SizeofSockaddrInet6)
	runtime.KeepAlive(&sa)
	return errno
}

func portOf(sa unix.Sockaddr) int {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return sa.Port
	case *unix.SockaddrInet6:
		return sa.Port
	}
	return 0
}
