// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Offsets in bytes of the interface index in the messages below, which the
// child fills in: in struct ifinfomsg and struct ifaddrmsg behind the netlink
// header, and in the RTA_OIF attribute that comes first after struct rtmsg.
const (
	linkIndexAt  = unix.SizeofNlMsghdr + 4
	addrIndexAt  = unix.SizeofNlMsghdr + 4
	routeIndexAt = unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr
)

// loopbackIndex is the index of lo in every network namespace (LOOPBACK_IFINDEX,
// include/net/flow.h).
const loopbackIndex = 1

// linkMsg returns a change of the link with the index, or, where that is zero,
// of the one that an IFLA_IFNAME among the attributes names.
func linkMsg(index int32, up bool, attrs ...*nl.RtAttr) []byte {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = index
	if up {
		info.Flags, info.Change = unix.IFF_UP, unix.IFF_UP
	}
	req.AddData(info)
	for _, a := range attrs {
		req.AddData(a)
	}
	return req.Serialize()
}

func nameAttr(name string) *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)) }

func mtuAttr(mtu int) *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))) }

func macAttr(mac net.HardwareAddr) *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_ADDRESS, mac) }

func queueAttr(frames int) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(frames)))
}

func netnsAttr(fd int) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(fd)))
}

// addrMsg returns the addition of the address to a link. IFA_F_NODAD makes an
// IPv6 address usable at once: nobody else is on this wire.
func addrMsg(p netip.Prefix) []byte {
	req := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Prefixlen = uint8(p.Bits())
	msg.Flags = unix.IFA_F_PERMANENT
	if p.Addr().Is6() {
		msg.Flags |= unix.IFA_F_NODAD
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice()))
	if p.Addr().Is4() {
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(p)))
	}
	return req.Serialize()
}

// spareMetric is the metric of a route that is to stand behind others (the kernel's
// own for IPv6 is 1024, and for IPv4 0; the least comes first).
const spareMetric = 2048

// routeMsg returns the addition of a route to the network through the gateway, which
// need not be near, in the container's own network. As a spare one it goes behind all
// that are there.
func routeMsg(to netip.Prefix, gateway netip.Addr, near, spare bool) []byte {
	flags := unix.NLM_F_ACK | unix.NLM_F_CREATE
	if spare {
		flags |= unix.NLM_F_APPEND
	} else {
		flags |= unix.NLM_F_EXCL
	}
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, flags)
	msg := nl.NewRtMsg()
	msg.Family = uint8(family(gateway))
	msg.Dst_len = uint8(to.Bits())
	if !near {
		msg.Flags |= unix.RTNH_F_ONLINK
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(0)))
	req.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, gateway.AsSlice()))
	if to.Bits() > 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_DST, to.Addr().AsSlice()))
	}
	if spare {
		req.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(spareMetric)))
	}
	return req.Serialize()
}

// lookupMsg returns the question by what route a packet to the address goes.
func lookupMsg(to netip.Addr) []byte {
	req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
	msg := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(to)), Dst_len: uint8(to.BitLen())}}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_DST, to.AsSlice()))
	return req.Serialize()
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// broadcast returns the last address of an IPv4 network.
func broadcast(p netip.Prefix) []byte {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < p.Addr().BitLen(); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}
