// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

const (
	// MaxHostPorts is how many HostPorts there may be: each has a socket of each family,
	// for which the set-up of the tap has room.
	MaxHostPorts = 16
	// maxHostConns is how many connections through them there may be at a time, lest
	// the container take all descriptors; more wait to be accepted.
	maxHostConns = 1024
	// hostBacklog is how many wait.
	hostBacklog = 128
	// acceptPause is between tries to accept, where the process lacks something.
	acceptPause = 100 * time.Millisecond
)

// A HostPort says that the TCP port Port of the container's loopback leads to the port
// Host of the host's. It is a plain value.
type HostPort struct{ Port, Host uint16 }

// hostPorts are the listeners in the container, each with where its clients are led.
type hostPorts struct {
	listeners []net.Listener
	dial      []netip.AddrPort
}

// hostPortSockets are what HostPorts need in the container: sockets of both families for
// each, which are bound from outside.
func hostPortSockets(ports []HostPort) []tap.Socket {
	var all []tap.Socket
	for range ports {
		all = append(all, tap.Socket{Domain: unix.AF_INET, Type: unix.SOCK_STREAM}, tap.Socket{Domain: unix.AF_INET6, Type: unix.SOCK_STREAM})
	}
	return all
}

// openHostPorts listens at the container's loopback. A container may lack IPv6.
func (s *Session) openHostPorts() error {
	if len(s.cfg.HostPorts) == 0 {
		return nil
	}
	if len(s.cfg.HostPorts) > MaxHostPorts {
		return fmt.Errorf("%d ports of the host's loopback: want at most %d", len(s.cfg.HostPorts), MaxHostPorts)
	}
	if s.cfg.Device != nil {
		return errors.New("ports of the host's loopback need a tap that slipway makes")
	}
	made := s.opened().ports
	for i, p := range s.cfg.HostPorts {
		for j, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			file, at := made[2*i+j], netip.AddrPortFrom(a, p.Port)
			l, err := listenAt(file, at)
			if err != nil && a.Is6() && missing6(err) {
				continue
			}
			if err != nil {
				return fmt.Errorf("listen at %s in the container: %w", at, err)
			}
			s.hostPorts.listeners = append(s.hostPorts.listeners, l)
			s.hostPorts.dial = append(s.hostPorts.dial, netip.AddrPortFrom(a, p.Host))
		}
	}
	return nil
}

// missing6 reports whether the error is that of a container without IPv6.
func missing6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// listenAt makes a listener of a socket in the container. lo need not be up yet
// (IP_FREEBIND, which holds for both families).
func listenAt(made tap.File, at netip.AddrPort) (net.Listener, error) {
	if made.Err != nil {
		return nil, made.Err
	}
	fd, err := unix.FcntlInt(uintptr(made.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), at.String())
	defer f.Close()
	options := [][3]int{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.IPPROTO_IP, unix.IP_FREEBIND, 1}}
	var sa unix.Sockaddr
	if at.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	} else {
		options = append(options, [3]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return nil, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, hostBacklog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(f)
}

// serve leads clients to the host until ctx is done.
func (h *hostPorts) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, h.close)
	defer stop()
	room := make(chan struct{}, maxHostConns)
	var all sync.WaitGroup
	for i, l := range h.listeners {
		all.Go(func() {
			for {
				select {
				case room <- struct{}{}:
				case <-ctx.Done():
					return
				}
				c, err := l.Accept()
				if err != nil {
					<-room
					if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
						return
					}
					select { // such as no descriptors, which takes time to pass
					case <-time.After(acceptPause):
					case <-ctx.Done():
					}
					continue
				}
				all.Go(func() {
					defer func() { <-room }()
					lead(ctx, c.(*net.TCPConn), h.dial[i])
				})
			}
		})
	}
	all.Wait()
}

// close ends the listening. It may be called again.
func (h *hostPorts) close() {
	for _, l := range h.listeners {
		l.Close()
	}
}

// dialHost connects to a service at the host's loopback, at that of the other family
// where it does not listen at the client's.
func dialHost(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	other := netip.IPv6Loopback()
	if to.Addr().Is6() {
		other = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		c, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(other, to.Port()).String())
	}
	return c, err
}

// lead joins a client to a service of the host, and closes it. Nobody there is told by a
// reset.
func lead(ctx context.Context, client *net.TCPConn, to netip.AddrPort) {
	defer client.Close()
	c, err := dialHost(ctx, to)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); c.Close() })
	defer stop()
	host := c.(*net.TCPConn)
	var ways sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{client, host}, {host, client}} {
		ways.Go(func() {
			// The kernel copies (splice(2)). A broken way breaks the other one.
			if _, err := io.Copy(way[1], way[0]); err != nil {
				_ = way[0].SetLinger(0)
				_ = way[1].SetLinger(0)
				way[0].Close()
				way[1].Close()
				return
			}
			_ = way[1].CloseWrite()
		})
	}
	ways.Wait()
}
