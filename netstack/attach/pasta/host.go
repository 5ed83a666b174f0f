// SPDX-License-Identifier: Apache-2.0

package pasta

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Host is what the options are resolved against: the interfaces of the host that have
// addresses, and its default routes. It is a plain value.
type Host struct {
	Interfaces []Interface
	// Defaults are the default routes of the main table, of both families, those that
	// the kernel prefers first.
	Defaults []Default
}

// An Interface is one of the host's, with the addresses that may be a container's too:
// none of its loopback, of one link only, or temporary (RFC 8981).
type Interface struct {
	Name  string
	Addrs []netip.Prefix // with the length of the network's prefix, not masked
}

// A Default is a default route.
type Default struct {
	Interface string
	IPv6      bool
	// Gateway is the zero Addr where there is none: on a tunnel.
	Gateway netip.Addr
	// Source is the address that the route prefers; the zero Addr for none.
	Source   netip.Addr
	priority int
}

// ReadHost asks the kernel (rtnetlink(7)), in the network namespace of the caller.
func ReadHost() (Host, error) {
	var h Host
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return h, fmt.Errorf("list the host's interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		a := l.Attrs()
		names[a.Index] = a.Name
		i := Interface{Name: a.Name}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			addrs, err := netlink.AddrList(l, family)
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return h, fmt.Errorf("list the addresses of %s: %w", a.Name, err)
			}
			for _, addr := range addrs {
				if p, ok := copyable(addr); ok {
					i.Addrs = append(i.Addrs, p)
				}
			}
		}
		h.Interfaces = append(h.Interfaces, i)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := h.readDefaults(family, names); err != nil {
			return h, err
		}
	}
	return h, nil
}

// copyable returns the address if a container can have it too.
func copyable(addr netlink.Addr) (netip.Prefix, bool) {
	const unwanted = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	a, ok := netip.AddrFromSlice(addr.IP)
	a = a.Unmap()
	ones, _ := addr.Mask.Size()
	ok = ok && a.IsGlobalUnicast() && addr.Flags&unwanted == 0 && ones > 0
	return netip.PrefixFrom(a, ones), ok
}

// readDefaults adds the default routes of a family.
func (h *Host) readDefaults(family int, names map[int]string) error {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	routes, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a host without IPv6
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones > 0 || !r.Dst.IP.IsUnspecified() {
				continue
			}
		}
		if r.Type != unix.RTN_UNICAST {
			continue
		}
		d := Default{Interface: names[r.LinkIndex], IPv6: family == unix.AF_INET6, priority: r.Priority}
		d.Gateway = unzoned(r.Gw)
		if len(r.MultiPath) > 0 {
			best := r.MultiPath[0]
			for _, hop := range r.MultiPath[1:] {
				if hop.Hops > best.Hops {
					best = hop
				}
			}
			d.Interface, d.Gateway = names[best.LinkIndex], unzoned(best.Gw)
		}
		d.Source = unzoned(r.Src)
		if d.Interface != "" {
			h.add(d)
		}
	}
	return nil
}

// add adds a route behind those that come first.
func (h *Host) add(d Default) {
	i := len(h.Defaults)
	for i > 0 && h.Defaults[i-1].IPv6 == d.IPv6 && h.Defaults[i-1].priority > d.priority {
		i--
	}
	h.Defaults = append(h.Defaults, Default{})
	copy(h.Defaults[i+1:], h.Defaults[i:])
	h.Defaults[i] = d
}

func unzoned(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// find returns the interface of that name.
func (h Host) find(name string) (Interface, bool) {
	for _, i := range h.Interfaces {
		if i.Name == name {
			return i, true
		}
	}
	return Interface{}, false
}

// A template is what of the host a family of the container copies. The zero template is
// that of a host without that family.
type template struct {
	ifname  string
	addr    netip.Prefix
	gateway netip.Addr
}

// template returns that of a family, of the named interface if there is a name.
func (h Host) template(f familyOf, name string) template {
	var t template
	for _, d := range h.Defaults {
		if d.IPv6 != (f == six) || name != "" && d.Interface != name {
			continue
		}
		i, _ := h.find(d.Interface)
		if addr, ok := i.addr(f, d.Source); ok {
			return template{d.Interface, addr, d.Gateway}
		}
	}
	if i, ok := h.find(name); ok {
		if addr, ok := i.addr(f, netip.Addr{}); ok {
			return template{ifname: name, addr: addr}
		}
	}
	return t
}

// addr returns the address of a family, the preferred one if that is there.
func (i Interface) addr(f familyOf, preferred netip.Addr) (netip.Prefix, bool) {
	var first netip.Prefix
	for _, p := range i.Addrs {
		if of(p.Addr()) != f {
			continue
		}
		if p.Addr() == preferred {
			return p, true
		}
		if !first.IsValid() {
			first = p
		}
	}
	return first, first.IsValid()
}
