// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/slipway-net/slipway/netstack/loop"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

const (
	// maxFrame is more than the longest frame that a tap gives: a packet of 64 KiB
	// and all headers.
	maxFrame = 66 << 10
	// turn is how many frames of one member are handed on before it is another's turn.
	turn = 32
)

// broadcast is the bit of an Ethernet address that means more than one station.
const broadcast = 1

// A port is a member, as the switch has it. It belongs to the switch's loop.
type port struct {
	s         *Switch
	sock      int
	sockToken loop.Token
	names     []string
	host      byte // 0 until it was welcomed
	station   Station
	tap       int // -1 until it was attached
	tapToken  loop.Token
}

// sockReady obeys what the member says.
func (p *port) sockReady() {
	m, fd, err := receive(p.sock, p.s.message)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return
	}
	if err == nil {
		err = p.obey(m, fd)
	} else if fd >= 0 {
		unix.Close(fd)
	}
	if err != nil {
		if !errors.Is(err, errClosed) {
			_ = send(p.sock, message{Kind: kindRefused, Error: err.Error()}, -1)
		}
		p.s.leave(p)
	}
}

// obey takes over the descriptor, or closes it.
func (p *port) obey(m message, fd int) error {
	switch {
	case m.Kind == kindHello && p.host == 0 && fd < 0:
		if err := p.s.admit(p, m.Station); err != nil {
			return err
		}
		p.names = m.Names
		return send(p.sock, message{Kind: kindWelcome, Station: &p.station}, -1)
	case m.Kind == kindAttach && p.host != 0 && p.tap < 0 && fd >= 0:
		return p.attach(fd)
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	return fmt.Errorf("a message of kind %q is out of place", m.Kind)
}

// attach begins to carry the frames of the tap.
func (p *port) attach(fd int) error {
	err := checkTap(fd)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		p.tapToken, err = p.s.loop.Add(fd, loop.Readable, loop.HandlerFunc(p.tapReady))
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("attach the tap: %w", err)
	}
	p.tap = fd
	p.s.byMAC[[macLen]byte(p.station.MAC)] = p
	p.s.stale = true
	return nil
}

// checkTap reports what of the descriptor is not as that of a tap that tap.Open has
// made.
func checkTap(fd int) error {
	var req [unix.SizeofSockaddrAny]byte // struct ifreq is shorter
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNGETIFF, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return fmt.Errorf("it is none: %w", errno)
	}
	flags := uint16(req[unix.IFNAMSIZ]) | uint16(req[unix.IFNAMSIZ+1])<<8
	if want := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR); flags&want != want {
		return fmt.Errorf("it has flags %#x: want offloads on it", flags)
	}
	return nil
}

// tapReady hands on what the container has sent.
func (p *port) tapReady(ev loop.Events) {
	for range turn {
		n, err := unix.Read(p.tap, p.s.frame)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return
		}
		if err != nil || n == 0 {
			p.s.leave(p)
			return
		}
		p.handOn(p.s.frame[:n])
	}
	if ev&loop.Error != 0 {
		p.s.leave(p)
	}
}

// handOn gives a frame to whom it is for.
func (p *port) handOn(b []byte) {
	if len(b) < tap.VNetHdrLen+etherLen {
		return
	}
	var h tap.VNetHdr
	h.Decode(b)
	frame := b[tap.VNetHdrLen:]
	if !p.station.admit(h, frame) {
		return
	}
	if frame[0]&broadcast == 0 {
		if to := p.s.byMAC[[macLen]byte(frame)]; to != nil && to != p {
			to.put(b)
		}
		return
	}
	for to := range p.s.ports {
		if to != p && to.tap >= 0 {
			to.put(b)
		}
	}
}

// put writes a frame into the member's container. One that it does not take is lost,
// as on any link.
func (p *port) put(b []byte) {
	unix.RawSyscall(unix.SYS_WRITE, uintptr(p.tap), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
}

// close closes what the switch has of the member.
func (p *port) close() {
	if p.tap >= 0 {
		p.s.loop.Remove(p.tap, p.tapToken)
		unix.Close(p.tap)
	}
	p.s.loop.Remove(p.sock, p.sockToken)
	unix.Close(p.sock)
}
