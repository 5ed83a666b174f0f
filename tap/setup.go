// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrNameTaken is matched, by errors.Is, by the errors which say that the target
// has an interface of the wanted name that is no tap, or one in use.
var ErrNameTaken = errors.New("the interface exists already")

// errExists says that the target has some interface of the wanted name, so that
// none can be moved there: taking it over is to be tried.
var errExists = errors.New("an interface of that name exists")

// txQueueLen is the number of frames that wait for us in the tap before the
// kernel drops. The ring must hold what arrives while the process waits for a
// CPU: at 140 000 datagrams a second, which one sender makes on a slow machine,
// 1000 frames are 7 ms, two to three slices of the scheduler (3 ms). The
// kernel's 500 for a tap (TUN_READQ_SIZE) hold one. More is not free: a frame
// can be 64 KiB that no socket is charged for.
const txQueueLen = 1000

// tunPath is the device that makes taps (Documentation/networking/tuntap.rst).
const tunPath = "/dev/net/tun"

// ifreq is struct ifreq: the interface's name, then a union.
type ifreq []byte

const (
	ifreqSize  = 40
	ifreqUnion = unix.IFNAMSIZ // offset of the union in bytes
)

func (r ifreq) int32() int    { return int(int32(binary.NativeEndian.Uint32(r[ifreqUnion:]))) }
func (r ifreq) index() []byte { return r[ifreqUnion : ifreqUnion+4] }

// mac returns the address in the union's struct sockaddr, behind its family.
func (r ifreq) mac() net.HardwareAddr {
	return append(net.HardwareAddr(nil), r[ifreqUnion+2:ifreqUnion+8]...)
}

// A way is how the tap comes to be in the target.
type way int

const (
	moved     way = iota // made in a throw-away network namespace, and moved
	pinned               // made in the target itself
	takenOver            // it was there already
	adopted              // somebody else has opened it
)

// A setup is the script that makes and configures the tap, with the places where
// its results are found.
type setup struct {
	*script
	cfg      Config
	ns       *namespaces
	way      way
	move     int     // the step that moves the tap into the target
	attach   []tried // the attempts at TUNSETIFF, best first
	offloads []tried // the attempts at TUNSETOFFLOAD, best first
	soft     []soft  // the steps whose failure does not end the script
	late     int     // the step that waits for the IPv6 address, 0 for none
	opened   []int   // the steps that make what Config.Inside asks for
	hwaddr   ifreq   // of SIOCGIFHWADDR
	mtu      ifreq   // of SIOCGIFMTU
}

// tried is an attempt: the step and what it grants.
type tried struct {
	step int
	got  Offload
}

// soft is a step whose failure the script survives, and whether Open does.
type soft struct {
	step int
	fine func(error) bool
}

// setUp runs the set-up in a child. Unless it is to take over the target's tap
// it makes one, and returns errExists where the name is taken.
func setUp(cfg Config, ns *namespaces, w way) (*Device, error) {
	sc, err := newScript()
	if err != nil {
		return nil, err
	}
	defer sc.close()
	s := &setup{script: sc, cfg: cfg, ns: ns, way: w}
	s.enter()
	s.tun()
	if w == moved {
		s.moveLink()
	}
	s.configure()
	if err := s.run(); err != nil {
		return nil, s.explain(err)
	}
	return s.device()
}

// enter joins the user namespace and the network namespace to open the tap in.
func (s *setup) enter() {
	if s.ns.join {
		s.call("join the user namespace", unix.SYS_SETNS, [4]uintptr{uintptr(s.ns.user), unix.CLONE_NEWUSER},
			hint{unix.EPERM, "it belongs to another user: become that user, or root"})
	}
	if s.way != moved {
		s.joinNet()
		return
	}
	s.call("make a network namespace", unix.SYS_UNSHARE, [4]uintptr{unix.CLONE_NEWNET},
		hint{unix.EPERM, "you have no capability in the target's user namespace: start from where it was made, or as root"},
		hint{unix.ENOSPC, "raise the sysctl user.max_net_namespaces"})
}

func (s *setup) joinNet() {
	s.call("join the network namespace", unix.SYS_SETNS, [4]uintptr{uintptr(s.ns.net), unix.CLONE_NEWNET},
		hint{unix.EPERM, "you have no capability in the user namespace that owns it"})
}

// tun opens the tap with the best offload that the kernel grants.
func (s *setup) tun() {
	s.open("open "+tunPath, regTap, tunPath, unix.O_RDWR|unix.O_NONBLOCK, tunHints()...)
	flags := []uint16{unix.IFF_TAP | unix.IFF_NO_PI}
	if s.way == pinned {
		flags[0] |= unix.IFF_TUN_EXCL
	}
	if s.cfg.Offload.Has(OffloadVNet) {
		flags = append([]uint16{flags[0] | unix.IFF_VNET_HDR}, flags...)
	}
	hints := []hint{
		{unix.EBUSY, "another process has it open: stop that, or choose another interface name"},
		{unix.ENOTTY, tunPath + " is not the tun device: " + remakeTun},
	}
	for _, f := range flags {
		req := s.ifreq()
		binary.NativeEndian.PutUint16(req[ifreqUnion:], f)
		got := Offload(0)
		if f&unix.IFF_VNET_HDR != 0 {
			got = OffloadVNet
		}
		s.attach = append(s.attach, tried{s.ioctl("make the tap", regTap, unix.TUNSETIFF, address(req), hints...), got})
	}
	s.alternatives(s.attach)
	s.framing()
	s.hwaddr = s.ifreq()
	s.ioctl("read the MAC address", regTap, unix.SIOCGIFHWADDR, address(s.hwaddr))
}

// framing sets the length of the vnet header, its byte order and the offloads,
// all of which an earlier user of a persistent tap may have left otherwise.
func (s *setup) framing() {
	length := s.buffer(4)
	binary.NativeEndian.PutUint32(length, VNetHdrLen)
	s.ioctl("set the vnet header's length", regTap, unix.TUNSETVNETHDRSZ, address(length))
	native := s.buffer(4)
	s.ioctl("set the vnet header's byte order", regTap, unix.TUNSETVNETLE, address(native))
	for _, o := range s.cfg.Offload.steps() {
		i := s.ioctl("set the offloads "+o.String(), regTap, unix.TUNSETOFFLOAD, o.tunFlags())
		s.offloads = append(s.offloads, tried{i, o})
	}
	s.alternatives(s.offloads)
}

// alternatives makes the steps, which stand one behind the other, attempts of
// which the first that succeeds ends the row.
func (s *setup) alternatives(row []tried) {
	for i, t := range row {
		s.steps[t.step].then = s.next()
		if i < len(row)-1 {
			s.steps[t.step].otherwise = row[i+1].step
		}
	}
}

// moveLink moves the tap into the target and goes there. The tap's descriptor
// goes on holding the namespace in which it was opened, not the target. Nearly
// all of Open's time is here: the kernel waits for an RCU barrier in the midst
// (net/core/dev.c, __dev_change_net_namespace), some ticks of the clock.
func (s *setup) moveLink() {
	s.netlink("open a netlink socket", regOuter, unix.NETLINK_ROUTE)
	msg := linkMsg(0, false, nameAttr(s.cfg.Name), netnsAttr(int(s.ns.net)))
	s.move = s.request("move the tap into the network namespace", regOuter, s.bytes(msg),
		hint{unix.EPERM, "you have no capability in the user namespace that owns it"})
	s.joinNet()
}

// configure does in the target what the configuration asks for.
func (s *setup) configure() {
	s.netlink("open a netlink socket", regInner, unix.NETLINK_ROUTE)
	index := s.ifreq()
	s.ioctl("find the interface", regInner, unix.SIOCGIFINDEX, address(index))
	if attrs := s.linkAttrs(); len(attrs) > 0 {
		s.indexed("set MTU, queue and MAC address", linkMsg(0, false, attrs...), linkIndexAt, index)
	}
	if s.cfg.Configure {
		s.request("set lo up", regInner, s.bytes(linkMsg(loopbackIndex, true)))
		s.sysctl("accept_ra", "0")
		s.sysctl("accept_dad", "0")
		s.indexed("set the interface up", linkMsg(0, true), linkIndexAt, index)
		s.addresses(index)
	}
	s.inside()
	if s.way != moved {
		i := s.open("open "+netFile, regNet, "/proc/self/"+netFile, unix.O_PATH)
		s.steps[i].otherwise = s.next() // then Watch finds nobody there
	}
	s.mtu = s.ifreq()
	s.ioctl("read the MTU", regInner, unix.SIOCGIFMTU, address(s.mtu))
}

func (s *setup) linkAttrs() []*nl.RtAttr {
	var attrs []*nl.RtAttr
	if s.cfg.MTU != 0 {
		attrs = append(attrs, mtuAttr(s.cfg.MTU))
	}
	if s.cfg.MAC != nil {
		attrs = append(attrs, macAttr(s.cfg.MAC))
	}
	if s.way != takenOver {
		attrs = append(attrs, queueAttr(txQueueLen))
	}
	return attrs
}

// addresses adds the addresses and default routes of the plan. Where an IPv6
// step fails, the rest of IPv6 is left out and the script goes on.
//
// An IPv6 address becomes the container's own only when a work queue of the
// kernel gets to it, also without duplicate address detection
// (net/ipv6/addrconf.c, addrconf_dad_work). What arrives for it before is
// dropped, and a connection then starts with the second that passes until its SYN
// is sent again. So the script waits for the route that comes with it.
func (s *setup) addresses(index []byte) {
	for _, f := range s.cfg.Plan.Families() {
		p := netip.PrefixFrom(f.Container, f.Prefix.Bits())
		a := s.indexed("add the address "+p.String(), addrMsg(p), addrIndexAt, index)
		for _, to := range s.routes(f) {
			s.route(to, f, index)
		}
		if f.Container.Is6() {
			s.late = s.await("wait for the address "+p.String(), regInner, s.bytes(lookupMsg(f.Container)))
			s.soft = append(s.soft, soft{a, off6})
			s.steps[a].otherwise = s.next()
		}
	}
}

// routes returns the networks that the family's gateway leads to.
func (s *setup) routes(f Family) []netip.Prefix {
	if s.cfg.Routes == nil {
		return []netip.Prefix{netip.PrefixFrom(f.Prefix.Addr().Unmap(), 0).Masked()}
	}
	var rs []netip.Prefix
	for _, r := range s.cfg.Routes {
		if r.Addr().Is4() == f.Prefix.Addr().Is4() {
			rs = append(rs, r)
		}
	}
	return rs
}

// route adds a route to a network through the family's gateway.
func (s *setup) route(to netip.Prefix, f Family, index ifreq) {
	gateway, near := f.Via(), f.Prefix.Contains(f.Via())
	what := "add the route to " + to.String() + " via " + gateway.String()
	if to.Bits() == 0 {
		what = "add the default route via " + gateway.String()
	}
	r := s.indexed(what, routeMsg(to, gateway, near, false), routeIndexAt, index,
		hint{unix.EEXIST, "there is one already: remove it, or leave the configuration to the container"})
	if s.cfg.Beside {
		spare := s.next()
		s.indexed(what+" behind another one", routeMsg(to, gateway, near, true), routeIndexAt, index)
		s.steps[r].then, s.steps[r].otherwise = s.next(), spare
		s.soft = append(s.soft, soft{r, exists})
	} else if s.way == takenOver {
		s.soft = append(s.soft, soft{r, exists})
		s.steps[r].otherwise = r + 1
	}
}

func exists(err error) bool { return errors.Is(err, unix.EEXIST) }

// indexed appends a request whose message gets the interface's index, which the
// child knows by then, at the offset.
func (s *setup) indexed(what string, msg []byte, at int, index ifreq, hints ...hint) int {
	buf := s.bytes(msg)
	s.patch(buf[at:], index.index())
	return s.request(what, regInner, buf, hints...)
}

// sysctl sets an IPv6 setting of the interface, where that can be done: /proc
// may be read-only, and without IPv6 there is none.
func (s *setup) sysctl(key, value string) {
	o := s.open("open "+key, regSysctl, "/proc/sys/net/ipv6/conf/"+s.cfg.Name+"/"+key, unix.O_WRONLY)
	w := s.write("set "+key, regSysctl, value)
	s.closeReg(regSysctl)
	s.steps[w].otherwise = w + 1
	s.steps[o].otherwise = s.next()
}

func (s *setup) ifreq() ifreq {
	r := ifreq(s.buffer(ifreqSize))
	copy(r, s.cfg.Name)
	return r
}

// explain turns the failure of some steps into what it means.
func (s *setup) explain(err error) error {
	last := s.attach[len(s.attach)-1].step
	switch {
	case s.way == moved && errors.Is(s.failed(s.move), unix.EEXIST),
		s.way == moved && errors.Is(s.failed(last), unix.EINVAL), // lo, which every namespace has
		s.way == pinned && errors.Is(s.failed(last), unix.EBUSY):
		return errExists
	case s.way == takenOver && errors.Is(s.failed(last), unix.EINVAL):
		return fmt.Errorf("%w and is no tap of one queue: choose another interface name", ErrNameTaken)
	case s.way == takenOver && errors.Is(s.failed(last), unix.EBUSY):
		return fmt.Errorf("%w: %w", ErrNameTaken, err)
	}
	return err
}

// device reads the results.
func (s *setup) device() (*Device, error) {
	d := &Device{
		target: s.cfg.Target, name: s.cfg.Name, file: s.ns.file, way: s.way, granted: s.ns.granted,
		mtu: s.mtu.int32(), mac: s.hwaddr.mac(),
	}
	if s.cfg.MAC != nil {
		d.mac = append(d.mac[:0], s.cfg.MAC...)
	}
	if s.granted(s.attach).Has(OffloadVNet) {
		d.offload = s.granted(s.offloads)
	}
	for _, st := range s.soft {
		err := s.failed(st.step)
		if err != nil && !st.fine(err) {
			return nil, err
		}
		if off6(err) {
			d.err6 = err
		}
	}
	if err := s.failed(s.late); s.late > 0 && err != nil {
		s.cfg.Log.Info("IPv6 may take another moment", "interface", d.name, "why", err)
	}
	d.fd = s.take(regTap)
	d.inside = s.takeInside()
	if s.way != moved {
		d.residents = openResidents(int(s.m.regs[regNet]))
	}
	return d, nil
}

// granted returns what the attempt that succeeded grants: the first one, in
// order, that did not fail.
func (s *setup) granted(row []tried) Offload {
	for _, t := range row {
		if s.failed(t.step) == nil {
			return t.got
		}
	}
	return 0
}

// off6 reports whether the error of adding an IPv6 address means that IPv6 is
// switched off (disable_ipv6: EACCES), not built in or not allowed.
func off6(err error) bool {
	for _, e := range []error{unix.EACCES, unix.EPERM, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.ENODEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// tunHints say what to do where the tun device cannot be opened.
func tunHints() []hint {
	return []hint{
		{unix.ENOENT, "load it: sudo modprobe tun"},
		{unix.ENODEV, "load it: sudo modprobe tun"},
		{unix.ENXIO, "load it: sudo modprobe tun"},
		{unix.EACCES, "allow it: sudo chmod 666 " + tunPath},
		{unix.EPERM, "the device controller of a container forbids it: start that one with --device " + tunPath},
	}
}
