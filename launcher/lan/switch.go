// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-net/slipway/netstack/loop"
	"golang.org/x/sys/unix"
)

// Linger is how long a switch without members waits for one.
const Linger = 2 * time.Second

// A Config says which network a Switch is for.
type Config struct {
	// Dir is the network's directory.
	Dir string
	// Listener is the descriptor of the listening socket in it, which the Switch owns.
	Listener int
	// Log takes what happens; nil discards it.
	Log *slog.Logger
}

// A Switch hands frames from member to member. Make it with New, Run it on one
// goroutine, and Close it when Run has returned.
type Switch struct {
	cfg     Config
	subnets []netip.Prefix
	lock    int // descriptor of the lock of all networks
	loop    *loop.Loop
	end     context.CancelFunc
	ports   map[*port]struct{}
	byMAC   map[[macLen]byte]*port
	taken   [lastHost + 1]bool
	last    byte // the host number given last
	stale   bool // the list of members has changed since it was sent
	linger  *time.Timer
	frame   []byte // for one frame at a time
	message []byte
}

// New takes over the listener. After an error it is closed.
func New(cfg Config) (_ *Switch, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Switch{
		cfg: cfg, lock: -1, last: firstHost - 1,
		ports: map[*port]struct{}{}, byMAC: map[[macLen]byte]*port{},
		frame: make([]byte, maxFrame), message: make([]byte, maxMessage),
	}
	defer func() {
		if err != nil {
			s.closeFiles()
			err = fmt.Errorf("make a switch: %w", err)
		}
	}()
	if s.subnets, err = readSubnets(cfg.Dir); err != nil {
		return nil, err
	}
	if s.lock, err = openLock(filepath.Dir(cfg.Dir)); err != nil {
		return nil, err
	}
	if err = unix.SetNonblock(cfg.Listener, true); err != nil {
		return nil, err
	}
	s.loop, err = loop.New()
	return s, err
}

// Run carries frames until there has been no member for Linger, or ctx is done, and
// then returns nil.
func (s *Switch) Run(ctx context.Context) error {
	ctx, s.end = context.WithCancel(ctx)
	defer s.end()
	if _, err := s.loop.Add(s.cfg.Listener, loop.Readable, loop.HandlerFunc(func(loop.Events) { s.accept() })); err != nil {
		return fmt.Errorf("listen for members: %w", err)
	}
	s.loop.AtEnd(s.tell)
	s.await()
	defer func() { s.linger.Stop() }()
	if err := s.loop.Run(ctx); err != nil {
		return fmt.Errorf("run the switch: %w", err)
	}
	return nil
}

// Close lets go of all members, and of the listener.
func (s *Switch) Close() error {
	for p := range s.ports {
		p.close()
	}
	s.closeFiles()
	return s.loop.Close()
}

func (s *Switch) closeFiles() {
	unix.Close(s.cfg.Listener)
	if s.lock >= 0 {
		unix.Close(s.lock)
	}
}

// await starts the time that the switch waits for its next member.
func (s *Switch) await() {
	s.linger = time.AfterFunc(Linger, func() { s.loop.Post(s.finish) })
}

// finish ends the switch if there is still no member. Whoever connects does so under the
// lock, so that all who did are here.
func (s *Switch) finish() {
	if len(s.ports) > 0 {
		return
	}
	if err := unix.Flock(s.lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		s.await()
		return
	}
	defer unix.Flock(s.lock, unix.LOCK_UN)
	if s.accept(); len(s.ports) > 0 {
		return
	}
	if err := errors.Join(os.Remove(filepath.Join(s.cfg.Dir, socketFile)), forgetSubnets(s.cfg.Dir)); err != nil {
		s.cfg.Log.Warn("leave the network's directory", "err", err)
	}
	s.end()
}

// accept lets in who waits.
func (s *Switch) accept() {
	for {
		fd, _, err := unix.Accept4(s.cfg.Listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			if err != unix.EAGAIN {
				s.cfg.Log.Warn("let in a member", "err", err)
			}
			return
		}
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || int(cred.Uid) != os.Geteuid() || len(s.ports) >= MaxMembers {
			unix.Close(fd)
			continue
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*maxMessage)
		p := &port{s: s, sock: fd, tap: -1}
		if p.sockToken, err = s.loop.Add(fd, loop.Readable, loop.HandlerFunc(func(loop.Events) { p.sockReady() })); err != nil {
			unix.Close(fd)
			continue
		}
		s.ports[p] = struct{}{}
	}
}

// admit gives the member a host number: the one it had before, if that is free.
func (s *Switch) admit(p *port, before *Station) error {
	host := hostOf(s.subnets, before)
	if host == 0 || s.taken[host] {
		// One that was given back is used again as late as can be: others may still
		// know it for somebody else's.
		host = s.last
		for range lastHost {
			if host++; host > lastHost {
				host = firstHost
			}
			if !s.taken[host] {
				break
			}
		}
		if s.taken[host] {
			return fmt.Errorf("the network is full: %d containers at most", MaxMembers)
		}
		s.last = host
	}
	s.taken[host] = true
	p.host, p.station = host, station(s.subnets, host)
	return nil
}

// leave forgets a member.
func (s *Switch) leave(p *port) {
	if _, ok := s.ports[p]; !ok {
		return
	}
	delete(s.ports, p)
	if p.host != 0 {
		s.taken[p.host] = false
	}
	if p.tap >= 0 {
		delete(s.byMAC, [macLen]byte(p.station.MAC))
		s.stale = true
	}
	p.close()
	if len(s.ports) == 0 {
		s.await()
	}
}

// tell sends the list of members to all, where it has changed.
func (s *Switch) tell() {
	for s.stale {
		s.stale = false
		s.sendList()
	}
}

func (s *Switch) sendList() {
	m := message{Kind: kindMembers}
	for p := range s.ports {
		if p.tap < 0 {
			continue
		}
		r := Record{Names: p.names}
		for _, a := range p.station.Addrs {
			r.Addrs = append(r.Addrs, a.Addr())
		}
		m.Members = append(m.Members, r)
	}
	for p := range s.ports {
		if p.tap < 0 {
			continue
		}
		if err := send(p.sock, m, -1); err != nil {
			// It does not read, or is gone. It may join again.
			s.leave(p)
		}
	}
}
