// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What golang.org/x/sys lacks of include/uapi/linux/netfilter/nf_tables.h and
// linux/netfilter_ipv4.h.
const (
	nftaTproxyFamily  = 1
	nftaTproxyRegAddr = 2
	nftaTproxyRegPort = 3
	nftaDescConcat    = 2
	nftaFieldLen      = 1
	nftSetConcat      = 0x80
	nftTableOwner     = 2
	nfPriorityRaw     = -300 // NF_IP_PRI_RAW
	nfPriorityMangle  = -150 // NF_IP_PRI_MANGLE
	nfSubsysNFTables  = unix.NFNL_SUBSYS_NFTABLES
)

// Registers of nftables, of 4 bytes each; a tuple takes up to ten.
const (
	regTuple = unix.NFT_REG32_00
	regWork  = unix.NFT_REG32_00 + 10
	regPort  = unix.NFT_REG32_00 + 14
)

// nftProbeName is the name of chain and set.
const nftProbeName = "probe"

// An expr is one expression of an nftables rule.
type expr struct {
	name  string
	attrs []*nl.RtAttr
}

// An nftRule is a rule, with the chain that it is in and what that is in.
type nftRule struct {
	table string
	flags uint32 // of the table
	set   bool   // there is a set of tuples, too
	chain string // its type
	hook  uint32
	prio  int32
	exprs []expr
}

// batch returns a transaction that makes a table, perhaps a set, a chain and the
// rule. Only the rule asks for an acknowledgement, so that the first answer is
// that, or the error of what failed.
func (r nftRule) batch(f nftFamily) []byte {
	msg := func(kind, flags int, attrs ...*nl.RtAttr) []byte {
		req := nl.NewNetlinkRequest(nfSubsysNFTables<<8|kind, flags)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: f.proto})
		for _, a := range attrs {
			req.AddData(a)
		}
		return req.Serialize()
	}
	list := nested(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range r.exprs {
		list.AddChild(nested(unix.NFTA_LIST_ELEM, str(unix.NFTA_EXPR_NAME, e.name), nested(unix.NFTA_EXPR_DATA, e.attrs...)))
	}
	hook := nested(unix.NFTA_CHAIN_HOOK, be32(unix.NFTA_HOOK_HOOKNUM, r.hook), be32(unix.NFTA_HOOK_PRIORITY, uint32(r.prio)))
	out := batchMark(unix.NFNL_MSG_BATCH_BEGIN)
	out = append(out, msg(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, str(unix.NFTA_TABLE_NAME, r.table), be32(unix.NFTA_TABLE_FLAGS, r.flags))...)
	if r.set {
		out = append(out, msg(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, f.set(r.table)...)...)
	}
	out = append(out, msg(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, str(unix.NFTA_CHAIN_TABLE, r.table),
		str(unix.NFTA_CHAIN_NAME, nftProbeName), hook, str(unix.NFTA_CHAIN_TYPE, r.chain))...)
	rule := []*nl.RtAttr{str(unix.NFTA_RULE_TABLE, r.table), str(unix.NFTA_RULE_CHAIN, nftProbeName)}
	if len(r.exprs) > 0 {
		rule = append(rule, list)
	}
	out = append(out, msg(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK, rule...)...)
	return append(out, batchMark(unix.NFNL_MSG_BATCH_END)...)
}

// batchMark returns the message that begins or ends a transaction
// (include/uapi/linux/netfilter/nfnetlink.h).
func batchMark(kind int) []byte {
	req := nl.NewNetlinkRequest(kind, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, ResId: hton16(nfSubsysNFTables)})
	return req.Serialize()
}

// An nftFamily has what the rules for IPv4 and IPv6 differ in.
type nftFamily struct {
	name             string
	proto            byte
	domain           int
	addrLen          uint32 // bytes
	sourceAt, destAt uint32 // in the IP header
}

const portLen = 2 // bytes

// set describes the set of tuples, which packets can add to.
func (f nftFamily) set(table string) []*nl.RtAttr {
	const setID, size = 1, 1 << 16
	desc, keyLen := nested(nftaDescConcat), uint32(0)
	for _, n := range []uint32{f.addrLen, portLen, f.addrLen, portLen} {
		desc.AddChild(nested(unix.NFTA_LIST_ELEM, be32(nftaFieldLen, n)))
		keyLen += (n + 3) &^ 3
	}
	return []*nl.RtAttr{
		str(unix.NFTA_SET_TABLE, table), str(unix.NFTA_SET_NAME, nftProbeName),
		be32(unix.NFTA_SET_FLAGS, unix.NFT_SET_EVAL|nftSetConcat), be32(unix.NFTA_SET_KEY_LEN, keyLen), be32(unix.NFTA_SET_ID, setID),
		nested(unix.NFTA_SET_DESC, be32(unix.NFTA_SET_DESC_SIZE, size), desc),
	}
}

// tuple loads the addresses and ports of a packet.
func (f nftFamily) tuple() []expr {
	words := f.addrLen / 4
	return []expr{
		payload(regTuple, unix.NFT_PAYLOAD_NETWORK_HEADER, f.sourceAt, f.addrLen),
		payload(regTuple+words, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, portLen),
		payload(regTuple+words+1, unix.NFT_PAYLOAD_NETWORK_HEADER, f.destAt, f.addrLen),
		payload(regTuple+2*words+1, unix.NFT_PAYLOAD_TRANSPORT_HEADER, portLen, portLen),
	}
}

func payload(reg, base, at, n uint32) expr {
	return expr{"payload", []*nl.RtAttr{
		be32(unix.NFTA_PAYLOAD_DREG, reg), be32(unix.NFTA_PAYLOAD_BASE, base),
		be32(unix.NFTA_PAYLOAD_OFFSET, at), be32(unix.NFTA_PAYLOAD_LEN, n),
	}}
}

// masked is: the work register and mask.
func masked(mask []byte) expr {
	return expr{"bitwise", []*nl.RtAttr{
		be32(unix.NFTA_BITWISE_SREG, regWork), be32(unix.NFTA_BITWISE_DREG, regWork), be32(unix.NFTA_BITWISE_LEN, uint32(len(mask))),
		data(unix.NFTA_BITWISE_MASK, mask), data(unix.NFTA_BITWISE_XOR, make([]byte, len(mask))),
	}}
}

func compare(with []byte) expr {
	return expr{"cmp", []*nl.RtAttr{be32(unix.NFTA_CMP_SREG, regWork), be32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ), data(unix.NFTA_CMP_DATA, with)}}
}

func immediate(reg uint32, v []byte) expr {
	return expr{"immediate", []*nl.RtAttr{be32(unix.NFTA_IMMEDIATE_DREG, reg), data(unix.NFTA_IMMEDIATE_DATA, v)}}
}

func meta(attr int, key uint32) expr {
	return expr{"meta", []*nl.RtAttr{be32(unix.NFTA_META_KEY, key), be32(attr, regWork)}}
}

func ctMark(attr int) expr {
	return expr{"ct", []*nl.RtAttr{be32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK), be32(attr, regWork)}}
}

func data(kind int, v []byte) *nl.RtAttr { return nested(kind, nl.NewRtAttr(unix.NFTA_DATA_VALUE, v)) }

func nested(kind int, attrs ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	for _, c := range attrs {
		a.AddChild(c)
	}
	return a
}

// be32 returns an attribute of four bytes, which nftables has in network order.
func be32(kind int, v uint32) *nl.RtAttr {
	return nl.NewRtAttr(kind, binary.BigEndian.AppendUint32(nil, v))
}

func str(kind int, v string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(v)) }

func hton16(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
