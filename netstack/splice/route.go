// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// loopbackIndex is the index of lo in every network namespace (LOOPBACK_IFINDEX,
// include/net/flow.h).
const loopbackIndex = 1

// addRoutes makes packets with the mark stay in the container: by a rule for the
// mark, and a table in which everything is local. Those left by an earlier session
// serve as well.
func (f family) addRoutes(c *conn) error {
	if err := c.request(f.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)); err != nil {
		return fmt.Errorf("add local route to table %d: %w", routeTable, err)
	}
	err := c.request(f.rule(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add routing rule for mark %#x: %w", mark, err)
	}
	return nil
}

// delRoutes takes them away again; what is gone already is no error.
func (f family) delRoutes(c *conn) error {
	rule := c.request(f.rule(unix.RTM_DELRULE, 0))
	route := c.request(f.route(unix.RTM_DELROUTE, 0))
	gone := func(err error) bool {
		return err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV)
	}
	switch {
	case !gone(rule):
		return fmt.Errorf("delete routing rule for mark %#x: %w", mark, rule)
	case !gone(route):
		return fmt.Errorf("delete local route from table %d: %w", routeTable, route)
	}
	return nil
}

// rule is: fwmark MARK lookup TABLE.
func (f family) rule(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK|flags)
	msg := nl.NewRtMsg() // struct fib_rule_hdr has the same layout, its action where rtm_type is
	msg.Family, msg.Type, msg.Table, msg.Protocol, msg.Scope = uint8(f.domain), unix.FR_ACT_TO_TBL, unix.RT_TABLE_UNSPEC, 0, 0
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.FRA_PRIORITY, nl.Uint32Attr(rulePriority)))
	req.AddData(nl.NewRtAttr(unix.FRA_FWMARK, nl.Uint32Attr(mark)))
	req.AddData(nl.NewRtAttr(unix.FRA_FWMASK, nl.Uint32Attr(^uint32(0))))
	req.AddData(nl.NewRtAttr(unix.FRA_TABLE, nl.Uint32Attr(routeTable)))
	return req
}

// route is: local default dev lo table TABLE.
func (f family) route(kind, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK|flags)
	msg := nl.NewRtMsg()
	msg.Family, msg.Type, msg.Table = uint8(f.domain), unix.RTN_LOCAL, unix.RT_TABLE_UNSPEC
	msg.Scope, msg.Protocol = unix.RT_SCOPE_HOST, unix.RTPROT_STATIC
	if f.domain == unix.AF_INET6 {
		msg.Scope = unix.RT_SCOPE_UNIVERSE
	}
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(loopbackIndex)))
	req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(routeTable)))
	return req
}
