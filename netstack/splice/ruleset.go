// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names and numbers of ours in the container's network namespace.
const (
	// tablePrefix and the tap's name make the name of our nftables table.
	tablePrefix = "slipway-"
	// mark is on the packets that are to stay in the container. Kubernetes, CNI's
	// port mapping, Cilium, WireGuard and Tailscale use other bits.
	mark uint32 = 0x0510_0000
	// acceptedMark is of the listener's sockets: for want of one they would get that of
	// the SYN (settingMarks), and what they send to those behind the container stay in it.
	// Nothing else has a use for it.
	acceptedMark = mark | 1
	// routeTable is the routing table for packets with the mark.
	routeTable = 0x510
	// rulePriority is of the routing rule that says so: before all but the one
	// for the local table, which is 0.
	rulePriority = 1
	// setName is of the sets of the flows that are not to stay in the container. They
	// have no size: for one that has, the kernel makes the whole hash table at once
	// (nft_hash_buckets of net/netfilter/nft_set_hash.c), a megabyte to clear for each
	// family before the container may start. Who fills a set bounds it.
	setName = "stacked"
)

// Where things are in headers, in bytes (RFC 9293 §3.1).
const (
	tcpSourceAt = 0
	tcpDestAt   = 2
	tcpFlagsAt  = 13
	tcpSYN      = 0x02
	tcpACK      = 0x10
)

// Registers of nftables' little machine, of 4 bytes each. A tuple takes up to ten.
const (
	regTuple = unix.NFT_REG32_00
	regWork  = unix.NFT_REG32_00 + 10
	regPort  = unix.NFT_REG32_00 + 14
	regLen   = 4
)

// portLen is the length of a port in bytes.
const portLen = 2

// A family has what differs between IPv4 and IPv6.
type family struct {
	domain   int // AF_INET or AF_INET6
	proto    byte
	addrType nftables.SetDatatype
	addrLen  uint32 // bytes
	sourceAt uint32 // bytes from the IP header
	destAt   uint32
	// listen is the address of our listener. It is nobody's: what is sent to it
	// goes out through the tap, so that the container cannot connect to it, and
	// the ports of the container's own addresses stay the container's.
	listen netip.Addr
	// loopback is where a Factory listens: it needs none of our rules.
	loopback netip.Addr
}

var families = [...]family{
	{
		domain: unix.AF_INET, proto: unix.NFPROTO_IPV4,
		addrType: nftables.TypeIPAddr, addrLen: 4, sourceAt: 12, destAt: 16,
		listen:   netip.AddrFrom4([4]byte{192, 0, 0, 8}), // RFC 7600 §4.8, the dummy address
		loopback: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	},
	{
		domain: unix.AF_INET6, proto: unix.NFPROTO_IPV6,
		addrType: nftables.TypeIP6Addr, addrLen: 16, sourceAt: 8, destAt: 24,
		listen:   netip.AddrFrom16([16]byte{0: 1, 15: 8}), // 100::8, RFC 6666, discard only
		loopback: netip.IPv6Loopback(),
	},
}

// A table is our nftables table of one family.
type table struct {
	family
	*nftables.Table
	set     *nftables.Set
	ifindex uint32 // of the tap
	port    uint16 // of our listener
	fresh   bool   // it is taken not to be there yet
}

func (f family) newTable(ifname string, ifindex uint32, port uint16) *table {
	t := &table{family: f, ifindex: ifindex, port: port, fresh: true}
	t.Table = &nftables.Table{Name: tablePrefix + ifname, Family: nftables.TableFamily(f.proto)}
	t.set = &nftables.Set{
		Table: t.Table, Name: setName, Concatenation: true,
		KeyType: nftables.MustConcatSetType(f.addrType, nftables.TypeInetService, f.addrType, nftables.TypeInetService),
	}
	return t
}

// keptPriority is of the chain that sees what the container sends: after the
// container's own DNAT of that (NF_IP_PRI_NAT_DST, -100), so that a packet has the
// destination that its SYN left with.
const keptPriority nftables.ChainPriority = -99

// build adds to cc what makes the table, without rules, in place of one that is there.
// To remove one, there or not, has the next transaction wait for an RCU grace period,
// so this is left out of the first attempt.
func (t *table) build(cc *nftables.Conn) error {
	cc.AddTable(t.Table)
	if !t.fresh {
		cc.DelTable(t.Table)
		cc.AddTable(t.Table)
	}
	if err := cc.AddSet(t.set, nil); err != nil {
		return fmt.Errorf("describe set: %w", err)
	}
	return nil
}

// rules adds to cc the rules.
func (t *table) rules(cc *nftables.Conn, untracked bool) {
	if untracked {
		raw := cc.AddChain(t.chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw))
		t.rule(cc, raw, t.untracked())
	}
	pre := cc.AddChain(t.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle))
	out := cc.AddChain(t.chain("output", nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityRef(keptPriority)))
	t.rule(cc, pre, t.turned())
	t.rule(cc, out, t.kept())
}

// forward adds to cc the rules for what the container forwards.
func (t *table) forward(cc *nftables.Conn) {
	answers := cc.AddChain(t.chain("answers", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityMangle))
	t.rule(cc, answers, answered())
	own := cc.AddChain(t.chain("own", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityRaw))
	t.rule(cc, own, t.own())
	t.rule(cc, &nftables.Chain{Name: "prerouting", Table: t.Table}, tracked(expr.MetaKeyIIF, expr.CmpOpNeq, loopbackIndex))
}

func (t *table) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
	return &nftables.Chain{Name: name, Table: t.Table, Type: kind, Hooknum: hook, Priority: prio}
}

func (t *table) rule(cc *nftables.Conn, c *nftables.Chain, exprs []expr.Any) {
	cc.AddRule(&nftables.Rule{Table: t.Table, Chain: c, Exprs: exprs})
}

// turned is the rule for a SYN of the container's that we write back into the tap: our
// listener gets it.
func (t *table) turned() []expr.Any {
	return concat(t.ours(),
		[]expr.Any{
			&expr.Immediate{Register: regWork, Data: t.listen.AsSlice()},
			&expr.Immediate{Register: regPort, Data: binary.BigEndian.AppendUint16(nil, t.port)},
			&expr.TProxy{Family: t.proto, RegAddr: regWork, RegPort: regPort},
		},
		setMark(), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
}

// kept is the rule for what the container would send out by the tap: it stays here.
// SYNs alone do not, each of which is a flow that has not been decided on yet.
func (t *table) kept() []expr.Any {
	return concat(t.spliced(), setMark())
}

// own is the rule that hides from conntrack what the container itself sends on such
// a flow. Where it masquerades all that leaves by the tap, its own too, conntrack
// would drop what it then sees leave by lo (nf_nat_oif_changed of
// net/netfilter/nf_nat_core.c).
func (t *table) own() []expr.Any {
	return concat(t.spliced(), []expr.Any{&expr.Notrack{}})
}

// spliced matches the TCP packets for the tap that are no SYN, and not of a flow in
// the set.
func (t *table) spliced() []expr.Any {
	return concat(tcpBy(expr.MetaKeyOIF, expr.CmpOpEq, t.ifindex), flags(expr.CmpOpNeq, tcpSYN), t.tuple(), t.unknown())
}

// ours matches the SYNs that come in by the tap, but for those of inbound connections
// that are stacked, which are in the set.
func (t *table) ours() []expr.Any {
	return concat(tcpBy(expr.MetaKeyIIF, expr.CmpOpEq, t.ifindex), flags(expr.CmpOpEq, tcpSYN), t.reversed(), t.unknown())
}

// unknown matches the tuples that are not in the set.
func (t *table) unknown() []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: regTuple, SetName: t.set.Name, SetID: t.set.ID, Invert: true}}
}

// answered is the rule for the SYN-ACK of our listener: conntrack knows it for an
// answer to the SYN, however that was masqueraded, and so knows the flow. It holds
// for that of any socket of the container, since what comes in on a flow which that
// has answered is for it.
func answered() []expr.Any {
	return concat(tcp(), flags(expr.CmpOpEq, tcpSYN|tcpACK),
		[]expr.Any{
			&expr.Ct{Register: regWork, Key: expr.CtKeyMARK},
			&expr.Bitwise{SourceRegister: regWork, DestRegister: regWork, Len: regLen, Mask: native(^mark), Xor: native(mark)},
			&expr.Ct{Register: regWork, Key: expr.CtKeyMARK, SourceRegister: true},
		})
}

// tracked is the rule for what is sent on such a flow by others behind the
// container, or by itself if it masquerades itself too: it goes no further. What
// our listener gets has the source that masquerading gave it, since conntrack
// changes that on its way in. A SYN is another flow's.
func tracked(key expr.MetaKey, op expr.CmpOp, ifindex uint32) []expr.Any {
	return concat(tcpBy(key, op, ifindex),
		[]expr.Any{
			&expr.Ct{Register: regWork, Key: expr.CtKeyMARK},
			&expr.Bitwise{SourceRegister: regWork, DestRegister: regWork, Len: regLen, Mask: native(mark), Xor: native(0)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: regWork, Data: native(mark)},
		},
		flags(expr.CmpOpNeq, tcpSYN), setMark())
}

// untracked is the rule that hides our SYN from conntrack, which has seen it when
// it went out, with other addresses where the container translates them, and would
// drop it for the clash.
func (t *table) untracked() []expr.Any {
	return concat(t.ours(), []expr.Any{&expr.Notrack{}})
}

// tcpBy matches TCP packets that come or go by the interface, or, with CmpOpNeq,
// by another.
func tcpBy(key expr.MetaKey, op expr.CmpOp, ifindex uint32) []expr.Any {
	return concat([]expr.Any{
		&expr.Meta{Key: key, Register: regWork},
		&expr.Cmp{Op: op, Register: regWork, Data: native(ifindex)},
	}, tcp())
}

// tcp matches TCP packets.
func tcp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: regWork},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regWork, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// tuple loads source, source port, destination and destination port, each at the
// start of a register.
func (f family) tuple() []expr.Any {
	return f.load(f.sourceAt, tcpSourceAt, f.destAt, tcpDestAt)
}

// reversed loads the same of a packet that goes the other way.
func (f family) reversed() []expr.Any {
	return f.load(f.destAt, tcpDestAt, f.sourceAt, tcpSourceAt)
}

func (f family) load(addr1, port1, addr2, port2 uint32) []expr.Any {
	words := f.addrLen / regLen
	return []expr.Any{
		&expr.Payload{DestRegister: regTuple, Base: expr.PayloadBaseNetworkHeader, Offset: addr1, Len: f.addrLen},
		&expr.Payload{DestRegister: regTuple + words, Base: expr.PayloadBaseTransportHeader, Offset: port1, Len: portLen},
		&expr.Payload{DestRegister: regTuple + words + 1, Base: expr.PayloadBaseNetworkHeader, Offset: addr2, Len: f.addrLen},
		&expr.Payload{DestRegister: regTuple + 2*words + 1, Base: expr.PayloadBaseTransportHeader, Offset: port2, Len: portLen},
	}
}

// flags matches packets whose flags SYN and ACK are those, or, with CmpOpNeq, are
// not.
func flags(op expr.CmpOp, want byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: regWork, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: regWork, DestRegister: regWork, Len: 1, Mask: []byte{tcpSYN | tcpACK}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: regWork, Data: []byte{want}},
	}
}

// setMark puts our mark on the packet.
func setMark() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: regWork, Data: native(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: regWork},
	}
}

func native(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

func concat(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

// key returns the tuple as an element of its set.
func (t Tuple) key() []byte {
	pad := func(b []byte, port uint16) []byte { return append(binary.BigEndian.AppendUint16(b, port), 0, 0) }
	b := pad(t.Container.Addr().AsSlice(), t.Container.Port())
	return pad(append(b, t.Remote.Addr().AsSlice()...), t.Remote.Port())
}
