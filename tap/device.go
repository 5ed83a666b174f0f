// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// DefaultName is the name of the interface where Config does not give one.
const DefaultName = "tap0"

// Bounds of the MTU in bytes: the least an IPv4 link may have (RFC 791 §3.2,
// also the kernel's ETH_MIN_MTU), the least an IPv6 link may have (RFC 8200 §5),
// and the most a tap takes (drivers/net/tun.c, MAX_MTU less the Ethernet header).
const (
	MinMTU     = 68
	MinMTU6    = 1280
	MaxMTU     = 65521
	DefaultMTU = 65520 // a multiple of 8, as slirp4netns' callers use
)

// MaxRoutes is how many routes a Config may have: each takes two messages of the
// set-up, for which there is room of a fixed size.
const MaxRoutes = 16

// A Config says which tap to make, where and how. The zero value of each field
// but Target is usable.
type Config struct {
	// Target is the network namespace to make the tap in.
	Target Target
	// Name is the interface's name, DefaultName where empty. Where the target
	// has a tap of that name which nobody holds open, as `ip tuntap add` makes,
	// that one is taken over.
	Name string
	// Beside says that the target may have networks of other makers. There must be no
	// interface of that name then, not even such a tap, and routes that are there by
	// other interfaces stay ahead of ours. Without it a default route that is there is
	// an error, since no traffic would come our way.
	Beside bool
	// MTU is in bytes, MinMTU to MaxMTU. Zero is DefaultMTU when configuring,
	// else what the kernel (1500) or the maker of the tap gave it.
	MTU int
	// MAC is the interface's address; nil leaves the kernel's random one, or the
	// one that the maker of the tap gave it.
	MAC net.HardwareAddr
	// Plan gives the addresses and default routes to set, used with Configure.
	Plan Plan
	// Configure sets lo and the interface up and gives it MTU, addresses and
	// default routes. Otherwise a new interface is left down, with MAC and MTU
	// as said above, for the container to configure itself.
	Configure bool
	// Routes are the networks that the gateways of the plan lead to, used with
	// Configure, at most MaxRoutes; nil means all, which is the default routes.
	Routes []netip.Prefix
	// Pin makes the tap in the target itself, rather than in a throw-away
	// network namespace from which it is moved. That takes 1 ms instead of
	// three to six ticks of the kernel's clock (14 to 24 ms at HZ=250). But an
	// open tap then keeps the target alive: whoever sets Pin runs Watch, which
	// tells when nobody is left there, and then closes the Device.
	Pin bool
	// Inside lists what else is to be made in the target, for the caller.
	Inside Inside
	// Offload is the most to ask for; zero is everything, OffloadNone nothing.
	Offload Offload
	// Log receives what Open did. Nil discards it.
	Log *slog.Logger
}

// A Device is an open tap in a container's network namespace. Its methods may be
// called from any goroutine.
type Device struct {
	target  Target
	name    string
	fd      int
	mtu     int
	mac     net.HardwareAddr
	offload Offload
	way     way
	err6    error
	inside  Opened
	granted bool // see namespaces
	file    fileID
	process *os.File // the pidfd, where Watch needs one
	// removals tells of files that are removed beside the target's, where Watch looks at
	// that; nil for none.
	removals *os.File
	// residents are there where the tap keeps the namespace alive.
	residents residents
	closing   sync.Once
	closeErr  error
}

// Open enters the target, makes (or takes over) the tap there and configures
// it. The caller closes the Device. After an error nothing is left behind: no
// interface, no descriptor, no process.
//
// Errors match ErrTarget where the target cannot be entered, ErrNameTaken where
// an interface that cannot be taken over has the name.
func Open(cfg Config) (*Device, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	ns, err := cfg.Target.open()
	if err != nil {
		return nil, err
	}
	defer ns.close()
	w := moved
	if cfg.Pin {
		w = pinned
	}
	d, err := setUp(cfg, ns, w)
	if errors.Is(err, errExists) && cfg.Beside {
		err = ErrNameTaken
	} else if errors.Is(err, errExists) {
		d, err = setUp(cfg, ns, takenOver)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s in the network namespace of %s: %w", cfg.Name, cfg.Target, err)
	}
	if d.way != moved {
		if fd := ns.takePidfd(); fd >= 0 {
			d.process = os.NewFile(uintptr(fd), "pidfd")
		} else if cfg.Target.NetNS != "" {
			d.removals = watchRemovals(cfg.Target.NetNS)
		}
	}
	cfg.Log.Debug("tap is open", "target", cfg.Target.String(), "interface", d.name, "mtu", d.mtu,
		"mac", d.mac.String(), "offload", d.offload.String(), "taken over", d.TakenOver())
	return d, nil
}

// FD returns the tap's descriptor, which is non-blocking and belongs to the
// Device: it must not be used after Close. Each read is one frame, each write
// too, preceded by a VNetHdr where Offload has OffloadVNet.
func (d *Device) FD() int { return d.fd }

// Offload returns what the kernel granted.
func (d *Device) Offload() Offload { return d.offload }

// MAC returns the hardware address of the interface, the container's end.
func (d *Device) MAC() net.HardwareAddr { return append(net.HardwareAddr(nil), d.mac...) }

// MTU returns the MTU in bytes that the interface had when Open returned. The
// container may change it.
func (d *Device) MTU() int { return d.mtu }

// Name returns the name of the interface.
func (d *Device) Name() string { return d.name }

// TakenOver reports whether the tap was there before, made by someone else.
func (d *Device) TakenOver() bool { return d.way == takenOver || d.way == adopted }

// IPv6Err returns why the container has no IPv6 although the plan has: the
// namespace, or the whole host, has it switched off. Nil means no such thing.
func (d *Device) IPv6Err() error { return d.err6 }

// Inside returns what Config.Inside asked for. It belongs to the Device, whose
// Close closes it.
func (d *Device) Inside() Opened { return d.inside }

// Granted reports whether this process, while it has the effective user that it
// had in Open, has every capability in the user namespace of the target without
// holding any, as the owner of that. Otherwise what needs a capability there,
// such as a request on a netlink socket of Inside, needs it held.
func (d *Device) Granted() bool { return d.granted }

// Close closes the tap. The interface, unless it was taken over, vanishes with
// it. Closing again does nothing and returns the same.
func (d *Device) Close() error {
	d.closing.Do(func() {
		if d.process != nil {
			d.process.Close()
		}
		if d.removals != nil {
			d.removals.Close()
		}
		d.residents.close()
		d.inside.close()
		if err := closeFile(d.fd); err != nil {
			d.closeErr = fmt.Errorf("close %s: %w", d.name, err)
		}
	})
	return d.closeErr
}

// Abandon is Close for a network namespace in which nobody is left, and that ends with
// the Device. The interface is not removed, but left to the kernel, which removes it
// with the namespace, and in the background: Close waits for that, 10 to 20 ms.
func (d *Device) Abandon() error {
	// Where it fails, Close removes the interface.
	_ = unix.IoctlSetInt(d.fd, unix.TUNSETPERSIST, 1)
	return d.Close()
}

// closeFile closes the descriptor when no fork that os/exec makes at the moment
// has a copy of it, which would keep a tap open until its execve(2): what is
// closed is gone when closeFile returns.
func closeFile(fd int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return unix.Close(fd)
}

// complete checks the configuration and fills in the defaults.
func (c Config) complete() (Config, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Name == "" {
		c.Name = DefaultName
	}
	if err := checkName(c.Name); err != nil {
		return c, err
	}
	if c.MTU == 0 && c.Configure {
		c.MTU = DefaultMTU
	}
	if c.MTU != 0 && (c.MTU < MinMTU || c.MTU > MaxMTU) {
		return c, fmt.Errorf("MTU %d: want %d to %d bytes", c.MTU, MinMTU, MaxMTU)
	}
	if c.Configure && c.Plan.V6.Enabled() && c.MTU < MinMTU6 {
		return c, fmt.Errorf("MTU %d: IPv6 needs at least %d bytes: raise it, or switch IPv6 off", c.MTU, MinMTU6)
	}
	if c.MAC != nil && !unicastMAC(c.MAC) {
		return c, fmt.Errorf("MAC address %s: want six bytes, not all zero, and the lowest bit of the first one zero", c.MAC)
	}
	if len(c.Routes) > MaxRoutes {
		return c, fmt.Errorf("%d routes: want at most %d", len(c.Routes), MaxRoutes)
	}
	for _, r := range c.Routes {
		if !r.IsValid() || r != r.Masked() {
			return c, fmt.Errorf("route %s: want a network address", r)
		}
		if !c.Plan.Of(r.Addr()).Enabled() {
			return c, fmt.Errorf("route %s: the container has no network of that family", r)
		}
	}
	c.Offload = c.Offload.bound()
	if c.Target.NetNS != "" { // Watch may have to find it from another directory
		path, err := filepath.Abs(c.Target.NetNS)
		if err != nil {
			return c, fmt.Errorf("find %s: %w", c.Target.NetNS, err)
		}
		c.Target.NetNS = path
	}
	return c, c.Inside.check()
}

// checkName checks an interface name by the kernel's rules (net/core/dev.c,
// dev_valid_name), and refuses '%', which the kernel takes for a pattern.
func checkName(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/:%", r) }
	switch {
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("interface name %q: want at most %d bytes", name, unix.IFNAMSIZ-1)
	case name == "." || name == ".." || strings.ContainsFunc(name, bad):
		return fmt.Errorf("interface name %q: want letters and digits, such as %s", name, DefaultName)
	}
	return nil
}

func unicastMAC(mac net.HardwareAddr) bool {
	const length = 6
	return len(mac) == length && mac[0]&1 == 0 && mac.String() != "00:00:00:00:00:00"
}

// bound returns what to ask for at most, with each offload dropped that lacks
// one it stands on.
func (o Offload) bound() Offload {
	const all = OffloadVNet | OffloadCSum | OffloadTSO4 | OffloadTSO6 | OffloadUSO
	switch {
	case o == 0:
		return all
	case !o.Has(OffloadVNet):
		return 0
	case !o.Has(OffloadCSum):
		return OffloadVNet
	}
	return o & all
}
