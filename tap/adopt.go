// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Adoption says what is known of a tap that somebody else has made. The zero
// value of each field but FD and MTU is usable.
type Adoption struct {
	// FD is the tap: an open /dev/net/tun with a tap of one queue attached to it,
	// or a socket that keeps messages apart (SOCK_SEQPACKET or SOCK_DGRAM of
	// unix(7)), each of which is a frame.
	FD int
	// MTU in bytes, MinMTU to MaxMTU: what the container's interface has, or will
	// have. It cannot be asked for from outside of the container.
	MTU int
	// MAC is the container's hardware address; nil means that of the tap, and
	// behind a socket that it shows itself with the first frame.
	MAC net.HardwareAddr
}

// sendBuffer is what may wait in a socket for its reader (bytes), as far as the
// host lets us: a socket refuses what does not fit, and that frame is lost.
const sendBuffer = 4 << 20

// Adopt returns the Device of a tap that was made elsewhere. The descriptor becomes
// non-blocking and close-on-exec, and is the Device's, unless there is an error.
// Its Watch waits for nothing but ctx: that a tap is gone, or the other end of a
// socket, reading it tells.
func Adopt(a Adoption) (*Device, error) {
	if a.MTU < MinMTU || a.MTU > MaxMTU {
		return nil, fmt.Errorf("MTU %d: want %d to %d bytes", a.MTU, MinMTU, MaxMTU)
	}
	d := &Device{name: fmt.Sprintf("descriptor %d", a.FD), fd: a.FD, mtu: a.MTU, mac: a.MAC, way: adopted}
	err := d.adoptTap()
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		err = d.adoptSocket()
	}
	if err != nil {
		return nil, fmt.Errorf("use descriptor %d as tap: %w", a.FD, err)
	}
	if err := unix.SetNonblock(a.FD, true); err != nil {
		return nil, fmt.Errorf("make descriptor %d non-blocking: %w", a.FD, err)
	}
	unix.CloseOnExec(a.FD)
	return d, nil
}

// adoptTap asks a tap for its name and address, and fits the framing. ENOTTY means
// that it is none.
func (d *Device) adoptTap() error {
	req := make(ifreq, ifreqSize)
	if err := d.ioctl(unix.TUNGETIFF, req); err != nil {
		if errors.Is(err, unix.EBADFD) {
			return errors.New("it is the tun device, but no tap is attached to it")
		}
		return err
	}
	flags := binary.NativeEndian.Uint16(req[ifreqUnion:])
	if flags&unix.IFF_TAP == 0 || flags&unix.IFF_NO_PI == 0 || flags&unix.IFF_MULTI_QUEUE != 0 {
		return errors.New("want a tap of one queue: IFF_TAP and IFF_NO_PI without IFF_MULTI_QUEUE")
	}
	d.name = unix.ByteSliceToString(req[:unix.IFNAMSIZ])
	if d.mac == nil {
		if err := d.ioctl(unix.SIOCGIFHWADDR, req); err != nil {
			return fmt.Errorf("read the MAC address: %w", err)
		}
		d.mac = req.mac()
	}
	if flags&unix.IFF_VNET_HDR == 0 {
		return nil
	}
	length, native := make(ifreq, ifreqSize), make(ifreq, ifreqSize)
	binary.NativeEndian.PutUint32(length, VNetHdrLen)
	if err := d.ioctl(unix.TUNSETVNETHDRSZ, length); err != nil {
		return fmt.Errorf("set the vnet header's length: %w", err)
	}
	if err := d.ioctl(unix.TUNSETVNETLE, native); err != nil {
		return fmt.Errorf("set the vnet header's byte order: %w", err)
	}
	return d.adoptOffload()
}

// adoptOffload asks for the most that the kernel grants.
func (d *Device) adoptOffload() error {
	var err error
	for _, o := range Offload(0).bound().steps() {
		if err = unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, int(o.tunFlags())); err == nil {
			d.offload = o
			return nil
		}
	}
	return fmt.Errorf("set the offloads: %w", err)
}

// adoptSocket checks that a socket keeps messages apart.
func (d *Device) adoptSocket() error {
	kind, err := unix.GetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET && kind != unix.SOCK_DGRAM {
		return errors.New("want a tap, or a socket that keeps messages apart")
	}
	// Beyond the host's limit the kernel gives what it does.
	return os.NewSyscallError("setsockopt SO_SNDBUF", unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer))
}

// ioctl makes an ioctl(2) whose argument is a structure of an interface.
func (d *Device) ioctl(req uintptr, arg ifreq) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), req, uintptr(unsafe.Pointer(&arg[0])))
	if errno != 0 {
		return errno
	}
	return nil
}
