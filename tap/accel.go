// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

var nftFamilies = [...]nftFamily{
	{name: "IPv4", proto: unix.NFPROTO_IPV4, domain: unix.AF_INET, addrLen: 4, sourceAt: 12, destAt: 16},
	{name: "IPv6", proto: unix.NFPROTO_IPV6, domain: unix.AF_INET6, addrLen: 16, sourceAt: 8, destAt: 24},
}

// A probe is a part of what the spliced path needs.
type probe struct {
	name string
	fix  string
	lost string // without it; empty for the whole path
	rule func(nftFamily) nftRule
}

// What is lost without a part.
const (
	lostAll     = "TCP is stacked"
	lost6       = "TCP over IPv6 is stacked"
	lostForward = "connections of containers behind a bridge in the container are stacked"
)

// What a probe writes where a value has no meaning.
const (
	probeMark  = 1
	probeTable = 1
)

// probes are in the order in which one builds on the other.
func probes() []probe {
	prerouting := nftRule{table: "plain", chain: "filter", hook: unix.NF_INET_PRE_ROUTING, prio: nfPriorityMangle}
	owned := prerouting
	owned.table, owned.flags = "owned", nftTableOwner
	return []probe{
		{"nftables", "sudo modprobe nf_tables", lostAll, func(nftFamily) nftRule { return prerouting }},
		{"nftables tables with an owner", "use Linux 5.12 or later", lostAll, func(nftFamily) nftRule { return owned }},
		{"nftables sets that packets add to", "use a kernel with CONFIG_NF_TABLES and Linux 5.12 or later", lostAll, func(f nftFamily) nftRule {
			r := owned
			r.set, r.exprs = true, append(synBy(unix.NFT_META_IIF), f.tuple()...)
			r.exprs = append(r.exprs, expr{"dynset", []*nl.RtAttr{
				str(unix.NFTA_DYNSET_SET_NAME, nftProbeName), be32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_ADD),
				be32(unix.NFTA_DYNSET_SREG_KEY, regTuple),
			}})
			return r
		}},
		{"nftables chains that route", "use a kernel with CONFIG_NF_TABLES_IPV4 and CONFIG_NF_TABLES_IPV6", lostAll, func(f nftFamily) nftRule {
			r := owned
			r.set, r.chain, r.hook = true, "route", unix.NF_INET_LOCAL_OUT
			r.exprs = append(synBy(unix.NFT_META_OIF), f.tuple()...)
			r.exprs = append(r.exprs,
				expr{"lookup", []*nl.RtAttr{str(unix.NFTA_LOOKUP_SET, nftProbeName), be32(unix.NFTA_LOOKUP_SREG, regTuple)}},
				immediate(regWork, nl.Uint32Attr(probeMark)), meta(unix.NFTA_META_SREG, unix.NFT_META_MARK))
			return r
		}},
		{"tproxy", "sudo modprobe nft_tproxy", lostAll, func(f nftFamily) nftRule {
			r := owned
			r.exprs = []expr{
				meta(unix.NFTA_META_DREG, unix.NFT_META_L4PROTO), compare([]byte{unix.IPPROTO_TCP}),
				immediate(regWork, make([]byte, f.addrLen)), immediate(regPort, make([]byte, portLen)),
				{"tproxy", []*nl.RtAttr{
					be32(nftaTproxyFamily, uint32(f.proto)), be32(nftaTproxyRegAddr, regWork), be32(nftaTproxyRegPort, regPort),
				}},
			}
			return r
		}},
		{"conntrack", "sudo modprobe -a nf_conntrack nft_ct", lostForward, func(nftFamily) nftRule {
			r := owned
			r.prio = nfPriorityRaw
			r.exprs = []expr{ctMark(unix.NFTA_CT_DREG), masked(nl.Uint32Attr(probeMark)), ctMark(unix.NFTA_CT_SREG), {"notrack", nil}}
			return r
		}},
	}
}

// synBy matches a SYN by the interface that key tells.
func synBy(key uint32) []expr {
	const flagsAt, synACK, syn = 13, 0x12, 0x02 // RFC 9293 §3.1
	return []expr{
		meta(unix.NFTA_META_DREG, key), compare(nl.Uint32Attr(loopbackIndex)),
		payload(regWork, unix.NFT_PAYLOAD_TRANSPORT_HEADER, flagsAt, 1), masked([]byte{synACK}), compare([]byte{syn}),
	}
}

// CheckAcceleration reports, one Check for each part, what the spliced path needs
// of a container's network namespace, and what is lost without it. It tries the
// parts in a new one.
func CheckAcceleration() []Check {
	const route, routeFix = "policy routing", "use a kernel with CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES"
	s, err := newScript()
	if err != nil {
		return []Check{verdict(route, err, "")}
	}
	defer s.close()
	s.unshare()
	parts := probes()
	steps := make([][len(nftFamilies)]int, len(parts))
	var rules, routes [len(nftFamilies)]int
	s.probe("set lo up", unix.NETLINK_ROUTE, linkMsg(loopbackIndex, true))
	for i, f := range nftFamilies {
		for j, p := range parts {
			steps[j][i] = s.probe("make a rule for "+f.name, unix.NETLINK_NETFILTER, p.rule(f).batch(f))
		}
		rules[i] = s.probe("make a routing rule for "+f.name, unix.NETLINK_ROUTE, f.ruleMsg())
		routes[i] = s.probe("make a local route for "+f.name, unix.NETLINK_ROUTE, f.localMsg())
	}
	if err := s.run(); err != nil {
		return []Check{verdict("acceleration", err, CheckUserNS().Fix)}
	}
	var out []Check
	for j, p := range parts {
		out = append(out, s.part(p, steps[j]))
	}
	how := probe{name: route, fix: routeFix, lost: lostAll}
	c := s.part(how, rules)
	if c.OK {
		c = s.part(how, routes)
	}
	return append(out, c)
}

// part returns the check of a part by its step for each family.
func (s *script) part(p probe, steps [len(nftFamilies)]int) Check {
	for i, step := range steps {
		err := s.failed(step)
		if err == nil {
			continue
		}
		if i > 0 && p.lost == lostAll {
			p.lost = lost6
		}
		return verdict(p.name, fmt.Errorf("%w; %s", err, p.lost), p.fix)
	}
	return verdict(p.name, nil, "")
}

// probe appends a request on a socket of its own whose failure is only noted. It
// returns the index of the request, or of the socket's step, never both failing.
func (s *script) probe(what string, protocol int, msg []byte) int {
	s.netlink(what, regInner, protocol)
	i := s.request(what, regInner, s.bytes(msg))
	s.steps[i].otherwise = s.next()
	s.closeReg(regInner)
	return i
}

// ruleMsg returns the addition of a routing rule for a mark.
func (f nftFamily) ruleMsg() []byte {
	req := nl.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := nl.NewRtMsg() // struct fib_rule_hdr has the same layout, its action where rtm_type is
	msg.Family, msg.Type = uint8(f.domain), unix.FR_ACT_TO_TBL
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.FRA_FWMARK, nl.Uint32Attr(probeMark)))
	req.AddData(nl.NewRtAttr(unix.FRA_TABLE, nl.Uint32Attr(probeTable)))
	return req.Serialize()
}

// localMsg returns the addition of a default route by which all is local.
func (f nftFamily) localMsg() []byte {
	req := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_ACK|unix.NLM_F_CREATE)
	msg := nl.NewRtMsg()
	msg.Family, msg.Type, msg.Table, msg.Scope = uint8(f.domain), unix.RTN_LOCAL, unix.RT_TABLE_UNSPEC, unix.RT_SCOPE_HOST
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(loopbackIndex)))
	req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(probeTable)))
	return req.Serialize()
}
