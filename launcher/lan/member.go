// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// DefaultInterface is the name of a container's interface on its first private network.
const DefaultInterface = "eth1"

// patience is how long a switch may take to answer: it is started meanwhile, perhaps
// on a busy machine.
const patience = 10 * time.Second

// rejoinPause is how long a member waits before it joins again, where that fails.
const rejoinPause = time.Second

// A JoinConfig says who joins which network.
type JoinConfig struct {
	// Dir is the network's directory, which is made where it is not there. All
	// networks of a user lie in one directory.
	Dir string
	// Names are those by which the others find the container, MaxNames at most.
	Names []string
	// Target is the container, by a process of it.
	Target tap.Target
	// Interface is the name of the container's interface; empty is DefaultInterface.
	Interface string
	// MTU is the interface's in bytes; 0 is the tap's default.
	MTU int
	// Launch starts a switch with the listening socket, which becomes its own. Nil
	// starts this binary again; see IsSwitch.
	Launch func(dir string, listener int) error
	// OwnNamespace says that nobody is left in the container when Close is called; see
	// tap.Device.Abandon.
	OwnNamespace bool
	// Log takes what happens; nil discards it.
	Log *slog.Logger
}

// A Member is a container's part in a network. Make it with Join, Run it, and Close it
// when Run has returned. Its other methods may be called from any goroutine.
type Member struct {
	cfg     JoinConfig
	station Station
	device  *tap.Device
	members atomic.Pointer[[]Record]
	mu      sync.Mutex // guards sock
	sock    *os.File
}

// Join takes the container into the network, and returns when its interface is up and
// frames are carried. After an error nothing is left in the container.
func Join(cfg JoinConfig) (*Member, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Interface == "" {
		cfg.Interface = DefaultInterface
	}
	if cfg.Launch == nil {
		cfg.Launch = start
	}
	if err := checkNames(cfg.Names); err != nil {
		return nil, err
	}
	m := &Member{cfg: cfg}
	if err := m.join(); err != nil {
		m.Close()
		return nil, fmt.Errorf("join the network %s: %w", cfg.Dir, err)
	}
	return m, nil
}

// Addrs returns the container's addresses on the network, with the length of the
// network's prefix, IPv4 first.
func (m *Member) Addrs() []netip.Prefix { return slices.Clone(m.station.Addrs) }

// Lookup returns the addresses of the members with the name, whose case does not count.
// There are none where nobody has it.
func (m *Member) Lookup(name string) []netip.Addr {
	var addrs []netip.Addr
	list := m.members.Load()
	if list == nil {
		return nil
	}
	for _, r := range *list {
		if slices.ContainsFunc(r.Names, func(n string) bool { return strings.EqualFold(n, name) }) {
			addrs = append(addrs, r.Addrs...)
		}
	}
	return addrs
}

// Run follows who joins and leaves until ctx is done, and then returns nil. Where the
// switch ends before, it joins another.
func (m *Member) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, m.hangUp)
	defer stop()
	for {
		err := m.follow()
		if ctx.Err() != nil {
			return nil
		}
		m.cfg.Log.Warn("the private network's switch is gone; joining another", "err", err)
		for err = m.rejoin(ctx); err != nil; err = m.rejoin(ctx) {
			m.cfg.Log.Warn("join the private network again", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(rejoinPause):
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// Close leaves the network.
func (m *Member) Close() error {
	defer m.hangUp()
	switch {
	case m.device == nil:
		return nil
	case m.cfg.OwnNamespace:
		return m.device.Abandon()
	}
	return m.device.Close()
}

// follow takes in the lists of members until the switch ends.
func (m *Member) follow() error {
	buf := make([]byte, maxMessage)
	for {
		if err := m.list(buf); err != nil {
			return err
		}
	}
}

// list takes in one list of members.
func (m *Member) list(buf []byte) error {
	msg, err := m.receive(buf, kindMembers)
	if err != nil {
		return err
	}
	m.members.Store(&msg.Members)
	return nil
}

// rejoin joins again, and hangs up if ctx is done by then.
func (m *Member) rejoin(ctx context.Context) error {
	err := m.join()
	if err != nil || ctx.Err() != nil {
		m.hangUp()
	}
	return err
}

// join connects to the switch, makes the tap where there is none yet, and hands it over.
func (m *Member) join() error {
	fd, err := connect(m.cfg.Dir, m.cfg.Launch)
	if err != nil {
		return err
	}
	sock, err := file(fd)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.sock = sock
	m.mu.Unlock()
	if err := sock.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	hello := message{Kind: kindHello, Names: m.cfg.Names}
	if m.device != nil {
		hello.Station = &m.station
	}
	if err := m.send(hello, -1); err != nil {
		return err
	}
	buf := make([]byte, maxMessage)
	welcome, err := m.receive(buf, kindWelcome)
	if err != nil {
		return err
	}
	if err := m.settle(welcome.Station); err != nil {
		return err
	}
	if err := m.send(message{Kind: kindAttach}, m.device.FD()); err != nil {
		return err
	}
	if err := m.list(buf); err != nil {
		return err
	}
	return sock.SetReadDeadline(time.Time{})
}

// settle makes the container what the switch says it is. Later it must stay that.
func (m *Member) settle(s *Station) (err error) {
	switch {
	case s == nil || len(s.Addrs) == 0:
		return errors.New("the switch gave no address")
	case m.device == nil:
		m.station = *s
		m.device, err = m.open()
		return err
	case !slices.Equal(m.station.Addrs, s.Addrs):
		return fmt.Errorf("the container's address %s is another's now", m.station.Addrs[0].Addr())
	}
	return nil
}

// open makes the container's interface.
func (m *Member) open() (*tap.Device, error) {
	d, err := tap.Open(tap.Config{
		Target: m.cfg.Target, Name: m.cfg.Interface, MTU: m.cfg.MTU, MAC: m.station.MAC,
		Plan: m.plan(), Routes: []netip.Prefix{}, Configure: true, Pin: true, Log: m.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	if !d.Offload().Has(tap.OffloadVNet) {
		d.Close()
		return nil, errors.New("the kernel gives taps no offloads, which a private network needs")
	}
	return d, nil
}

// plan has the container's addresses, and no gateway: the way out is another interface.
func (m *Member) plan() tap.Plan {
	var p tap.Plan
	for _, a := range m.station.Addrs {
		f := tap.Family{Prefix: a.Masked(), Container: a.Addr()}
		if a.Addr().Is4() {
			p.V4 = f
		} else {
			p.V6 = f
		}
	}
	return p
}

func (m *Member) send(msg message, fd int) error {
	return m.control(func(sock int) error { return send(sock, msg, fd) }, false)
}

// receive waits for a message of the kind.
func (m *Member) receive(buf []byte, kind string) (message, error) {
	var msg message
	err := m.control(func(sock int) (err error) {
		var fd int
		if msg, fd, err = receive(sock, buf); fd >= 0 {
			unix.Close(fd)
		}
		return err
	}, true)
	switch {
	case err != nil:
		return msg, err
	case msg.Kind == kindRefused:
		return msg, errors.New(msg.Error)
	case msg.Kind != kind:
		return msg, fmt.Errorf("the switch said %q, want %q", msg.Kind, kind)
	}
	return msg, nil
}

// control calls f with the socket, and again when it can be read if f said EAGAIN and is
// to wait.
func (m *Member) control(f func(sock int) error, wait bool) error {
	m.mu.Lock()
	sock := m.sock
	m.mu.Unlock()
	if sock == nil {
		return errClosed
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if !wait {
		if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
			return err
		}
		return ferr
	}
	err = raw.Read(func(fd uintptr) bool {
		ferr = f(int(fd))
		return !errors.Is(ferr, unix.EAGAIN)
	})
	return errors.Join(err, ignoreAgain(ferr))
}

// ignoreAgain is for what the end of the wait has told already.
func ignoreAgain(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// hangUp closes the socket to the switch.
func (m *Member) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sock != nil {
		m.sock.Close()
		m.sock = nil
	}
}

// file makes a socket one that the runtime waits for.
func file(fd int) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), socketFile), nil
}
