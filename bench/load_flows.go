// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxFlows bounds the flows that an endpoint names.
const maxFlows = 32

// A flow is one open flow as one end sees it.
type flow struct {
	Proto         string // "tcp" or "udp"
	Local, Remote netip.AddrPort
}

// String is the flow as a proof shows it.
func (f flow) String() string { return fmt.Sprintf("%s %s → %s", f.Proto, f.Local, f.Remote) }

// turned is the flow as the other end sees it where nobody translates.
func (f flow) turned() flow { return flow{f.Proto, f.Remote, f.Local} }

// flows returns the endpoint's open flows, at most maxFlows. The kernel is asked, so
// that no load has to keep count.
func (e *endpoint) flows() ([]flow, error) {
	var all []flow
	if r := e.udpPeer(); r.IsValid() {
		// The socket is not connected and has no local address of its own.
		all = append(all, flow{"udp", netip.AddrPortFrom(netip.IPv6Unspecified(), udpPortPeer), r})
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("list open flows: %w", err)
	}
	for _, d := range fds {
		fd, err := strconv.Atoi(d.Name())
		if err != nil {
			return nil, fmt.Errorf("list open flows: %w", err)
		}
		if f, ok := flowOf(fd); ok && len(all) < maxFlows {
			all = append(all, f)
		}
	}
	return all, nil
}

// flowOf returns the flow of a descriptor if that is a connected TCP or UDP socket.
func flowOf(fd int) (flow, bool) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	names := map[int]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}
	if err != nil || names[kind] == "" {
		return flow{}, false
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return flow{}, false
	}
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return flow{}, false
	}
	f := flow{names[kind], addrPort(local), addrPort(remote)}
	return f, f.Local.IsValid() && f.Remote.IsValid()
}

// addrPort converts an IP socket address; others yield the zero AddrPort. An IPv4
// address that an IPv6 socket maps is IPv4.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// met says whom the endpoint's servers took their last clients for.
type met struct {
	TCP, UDP netip.AddrPort // unset where there was none
}

func (e *endpoint) met() met {
	m := met{UDP: e.udpPeer()}
	if e.svc != nil {
		c, _ := e.svc.lastClient.Load().(netip.AddrPort)
		m.TCP = netip.AddrPortFrom(c.Addr().Unmap(), c.Port())
	}
	return m
}

// udpPeer returns who said hello last.
func (e *endpoint) udpPeer() netip.AddrPort {
	e.udp.mu.Lock()
	defer e.udp.mu.Unlock()
	p := e.udp.peer
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
