// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"bytes"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addLink reads a RTM_NEWLINK.
func (v *View) addLink(m syscall.NetlinkMessage) error {
	attrs, err := attributes(m, unix.RTM_NEWLINK)
	if attrs == nil || err != nil {
		return err
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	l := Link{Index: int(info.Index), Up: info.Flags&unix.IFF_UP != 0}
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(a.Value)
		case unix.IFLA_MTU:
			if len(a.Value) >= 4 {
				l.MTU = int(nl.NativeEndian().Uint32(a.Value))
			}
		case unix.IFLA_ADDRESS:
			l.MAC = bytes.Clone(a.Value) // the buffer is for the next message
		}
	}
	v.Links = append(v.Links, l)
	return nil
}

// addAddr reads a RTM_NEWADDR. The local address is IFA_LOCAL, where there is one.
func (v *View) addAddr(m syscall.NetlinkMessage) error {
	attrs, err := attributes(m, unix.RTM_NEWADDR)
	if attrs == nil || err != nil {
		return err
	}
	msg := nl.DeserializeIfAddrmsg(m.Data)
	var at netip.Addr
	for _, a := range attrs {
		if addr, ok := netip.AddrFromSlice(a.Value); ok && (a.Attr.Type == unix.IFA_LOCAL || a.Attr.Type == unix.IFA_ADDRESS && !at.IsValid()) {
			at = addr
		}
	}
	for i := range v.Links {
		if v.Links[i].Index == int(msg.Index) && at.IsValid() {
			v.Links[i].Addrs = append(v.Links[i].Addrs, netip.PrefixFrom(at, int(msg.Prefixlen)))
		}
	}
	return nil
}

// addRoute reads a RTM_NEWROUTE, which may be several routes of the same metric.
func (v *View) addRoute(m syscall.NetlinkMessage) error {
	attrs, err := attributes(m, unix.RTM_NEWROUTE)
	if attrs == nil || err != nil {
		return err
	}
	msg := nl.DeserializeRtMsg(m.Data)
	if msg.Table != unix.RT_TABLE_MAIN {
		return nil
	}
	all := netip.IPv4Unspecified()
	if msg.Family == unix.AF_INET6 {
		all = netip.IPv6Unspecified()
	}
	r := Route{To: netip.PrefixFrom(all, int(msg.Dst_len))}
	var hops []byte
	for _, a := range attrs {
		addr, ok := netip.AddrFromSlice(a.Value)
		switch {
		case a.Attr.Type == unix.RTA_DST && ok:
			r.To = netip.PrefixFrom(addr, int(msg.Dst_len))
		case a.Attr.Type == unix.RTA_GATEWAY && ok:
			r.By = addr
		case a.Attr.Type == unix.RTA_OIF && len(a.Value) >= 4:
			r.Index = int(nl.NativeEndian().Uint32(a.Value))
		case a.Attr.Type == unix.RTA_MULTIPATH:
			hops = a.Value
		}
	}
	if hops == nil {
		v.Routes = append(v.Routes, r)
	}
	v.addHops(r.To, hops)
	return nil
}

// addHops reads the struct rtnexthop of a RTA_MULTIPATH, each with its attributes
// (rtnetlink(7)).
func (v *View) addHops(to netip.Prefix, b []byte) {
	for len(b) >= unix.SizeofRtNexthop {
		order := nl.NativeEndian()
		size := int(order.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			return
		}
		r := Route{To: to, Index: int(order.Uint32(b[4:]))}
		for attrs := b[unix.SizeofRtNexthop:size]; len(attrs) >= unix.SizeofRtAttr; {
			n := int(order.Uint16(attrs))
			if n < unix.SizeofRtAttr || n > len(attrs) {
				break
			}
			if addr, ok := netip.AddrFromSlice(attrs[unix.SizeofRtAttr:n]); ok && order.Uint16(attrs[2:]) == unix.RTA_GATEWAY {
				r.By = addr
			}
			attrs = attrs[min(len(attrs), align(n)):]
		}
		v.Routes = append(v.Routes, r)
		b = b[min(len(b), align(size)):]
	}
}

// align rounds up to the boundary that netlink puts things at (NLMSG_ALIGNTO).
func align(n int) int { return (n + 3) &^ 3 }

// attributes returns those of a message of the type, nil for others and for what is
// too short to be one.
func attributes(m syscall.NetlinkMessage, kind uint16) ([]syscall.NetlinkRouteAttr, error) {
	if m.Header.Type != kind {
		return nil, nil
	}
	return syscall.ParseNetlinkRouteAttr(&m)
}
