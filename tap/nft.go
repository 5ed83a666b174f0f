// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of nftables' socket and tproxy expressions
// (include/uapi/linux/netfilter/nf_tables.h).
const (
	nftaSocketKey               = 1
	nftaSocketDreg              = 2
	nftSocketTransparent        = 0
	nftaTproxyFamily            = 1
	nftaTproxyRegPort           = 3
	nfSubsysNFTables            = unix.NFNL_SUBSYS_NFTABLES
	nfPriorityMangle            = -150 // NF_IP_PRI_MANGLE, linux/netfilter_ipv4.h
	nftProbeName                = "probe"
	nftRegister                 = unix.NFT_REG32_00
	probePort            uint16 = 1
	probeMark            uint32 = 1
)

// An expr is one expression of an nftables rule.
type expr struct {
	name  string
	attrs []*nl.RtAttr
}

// nftProbes are the expressions that the spliced path uses, and the modules that
// bring them.
var nftProbes = [...]struct {
	name, modules string
	exprs         []expr
}{
	{"nftables", "nf_tables", nil},
	{"conntrack", "nf_conntrack nft_ct", []expr{
		{"ct", []*nl.RtAttr{be32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK), be32(unix.NFTA_CT_DREG, nftRegister)}},
	}},
	{"socket match", "nft_socket", []expr{
		{"socket", []*nl.RtAttr{be32(nftaSocketKey, nftSocketTransparent), be32(nftaSocketDreg, nftRegister)}},
	}},
	{"tproxy", "nft_tproxy", []expr{
		{"immediate", []*nl.RtAttr{be32(unix.NFTA_IMMEDIATE_DREG, nftRegister), immediate(probePort)}},
		{"tproxy", []*nl.RtAttr{be32(nftaTproxyFamily, unix.NFPROTO_IPV4), be32(nftaTproxyRegPort, nftRegister)}},
	}},
}

// nftBatch returns a transaction that makes a table, a chain at prerouting and a
// rule with the expressions in it. Only the rule asks for an acknowledgement, so
// that the first answer is that, or the error of what failed.
func nftBatch(exprs []expr) []byte {
	nested := func(kind int, attrs ...*nl.RtAttr) *nl.RtAttr {
		a := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
		for _, c := range attrs {
			a.AddChild(c)
		}
		return a
	}
	list := nested(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		list.AddChild(nested(unix.NFTA_LIST_ELEM, str(unix.NFTA_EXPR_NAME, e.name), nested(unix.NFTA_EXPR_DATA, e.attrs...)))
	}
	mangle := int32(nfPriorityMangle)
	hook := nested(unix.NFTA_CHAIN_HOOK, be32(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_PRE_ROUTING), be32(unix.NFTA_HOOK_PRIORITY, uint32(mangle)))
	rule := []*nl.RtAttr{str(unix.NFTA_RULE_TABLE, nftProbeName), str(unix.NFTA_RULE_CHAIN, nftProbeName)}
	if len(exprs) > 0 {
		rule = append(rule, list)
	}
	out := batchMark(unix.NFNL_MSG_BATCH_BEGIN)
	out = append(out, nftMsg(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, str(unix.NFTA_TABLE_NAME, nftProbeName))...)
	out = append(out, nftMsg(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, str(unix.NFTA_CHAIN_TABLE, nftProbeName),
		str(unix.NFTA_CHAIN_NAME, nftProbeName), hook, str(unix.NFTA_CHAIN_TYPE, "filter"))...)
	out = append(out, nftMsg(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK, rule...)...)
	return append(out, batchMark(unix.NFNL_MSG_BATCH_END)...)
}

// batchMark returns the message that begins or ends a transaction
// (include/uapi/linux/netfilter/nfnetlink.h).
func batchMark(kind int) []byte {
	req := nl.NewNetlinkRequest(kind, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, ResId: hton16(nfSubsysNFTables)})
	return req.Serialize()
}

func nftMsg(kind, flags int, attrs ...*nl.RtAttr) []byte {
	req := nl.NewNetlinkRequest(nfSubsysNFTables<<8|kind, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
	for _, a := range attrs {
		req.AddData(a)
	}
	return req.Serialize()
}

// ruleMsg returns the addition of an IPv4 routing rule for a mark.
func ruleMsg() []byte {
	req := nl.NewNetlinkRequest(unix.RTM_NEWRULE, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg := nl.NewRtMsg() // struct fib_rule_hdr has the same layout, its action where rtm_type is
	msg.Family, msg.Type = unix.AF_INET, unix.FR_ACT_TO_TBL
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.FRA_FWMARK, nl.Uint32Attr(probeMark)))
	req.AddData(nl.NewRtAttr(unix.FRA_TABLE, nl.Uint32Attr(unix.RT_TABLE_MAIN)))
	return req.Serialize()
}

// be32 returns an attribute of four bytes, which nftables has in network order.
func be32(kind int, v uint32) *nl.RtAttr {
	return nl.NewRtAttr(kind, binary.BigEndian.AppendUint32(nil, v))
}

func str(kind int, v string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(v)) }

func immediate(v uint16) *nl.RtAttr {
	a := nl.NewRtAttr(unix.NFTA_IMMEDIATE_DATA|unix.NLA_F_NESTED, nil)
	a.AddRtAttr(unix.NFTA_DATA_VALUE, binary.BigEndian.AppendUint16(nil, v))
	return a
}

func hton16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
