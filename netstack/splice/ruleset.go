// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"encoding/binary"
	"fmt"
	"net/netip"

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
	// routeTable is the routing table for packets with the mark.
	routeTable = 0x510
	// rulePriority is of the routing rule that says so: before all but the one
	// for the local table, which is 0.
	rulePriority = 1
	// setSize bounds how many tuples a set holds: those of all flows that there
	// may be, and of as many that have ended and are not yet taken out.
	setSize = 1 << 16
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
)

// A family has what differs between IPv4 and IPv6.
type family struct {
	domain   int // AF_INET or AF_INET6
	proto    byte
	set      string
	addrType nftables.SetDatatype
	addrLen  uint32 // bytes
	sourceAt uint32 // bytes from the IP header
	destAt   uint32
	// listen is the address of our listener. It is nobody's: what is sent to it
	// goes out through the tap, so that the container cannot connect to it, and
	// the ports of the container's own addresses stay the container's.
	listen netip.Addr
}

var families = [...]family{
	{
		domain: unix.AF_INET, proto: unix.NFPROTO_IPV4, set: "flows4",
		addrType: nftables.TypeIPAddr, addrLen: 4, sourceAt: 12, destAt: 16,
		listen: netip.AddrFrom4([4]byte{192, 0, 0, 8}), // RFC 7600 §4.8, the dummy address
	},
	{
		domain: unix.AF_INET6, proto: unix.NFPROTO_IPV6, set: "flows6",
		addrType: nftables.TypeIP6Addr, addrLen: 16, sourceAt: 8, destAt: 24,
		listen: netip.AddrFrom16([16]byte{0: 1, 15: 8}), // 100::8, RFC 6666, discard only
	},
}

// table is our table, with its sets and chains.
type table struct {
	*nftables.Table
	sets [len(families)]*nftables.Set
}

func newTable(ifname string) *table {
	t := &table{Table: &nftables.Table{Name: tablePrefix + ifname, Family: nftables.TableFamilyINet}}
	for i, f := range families {
		t.sets[i] = &nftables.Set{
			Table: t.Table, Name: f.set, Dynamic: true, Concatenation: true, Size: setSize,
			KeyType: nftables.MustConcatSetType(f.addrType, nftables.TypeInetService, f.addrType, nftables.TypeInetService),
		}
	}
	return t
}

// build adds to cc what makes the table, whole, in place of one that is there.
func (t *table) build(cc *nftables.Conn, ifindex uint32, ifname string, ports [len(families)]uint16) error {
	cc.AddTable(t.Table)
	cc.DelTable(t.Table)
	cc.AddTable(t.Table)
	mangle := nftables.ChainPriorityMangle
	out := cc.AddChain(&nftables.Chain{
		Name: "output", Table: t.Table, Type: nftables.ChainTypeRoute,
		Hooknum: nftables.ChainHookOutput, Priority: mangle,
	})
	pre := cc.AddChain(&nftables.Chain{
		Name: "prerouting", Table: t.Table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: mangle,
	})
	for i, f := range families {
		if ports[i] == 0 {
			continue
		}
		if err := cc.AddSet(t.sets[i], nil); err != nil {
			return fmt.Errorf("describe set: %w", err)
		}
		cc.AddRule(&nftables.Rule{Table: t.Table, Chain: pre, Exprs: f.announced(ifindex, t.sets[i], ports[i])})
		cc.AddRule(&nftables.Rule{Table: t.Table, Chain: out, Exprs: f.kept(ifindex, t.sets[i])})
	}
	return nil
}

// announced is the rule for a SYN that we write into the tap: its flow is noted,
// and our listener gets it.
func (f family) announced(ifindex uint32, s *nftables.Set, port uint16) []expr.Any {
	exprs := f.tcp(expr.MetaKeyIIF, ifindex)
	exprs = append(exprs, synOnly(expr.CmpOpEq)...)
	exprs = append(exprs, f.tuple()...)
	return append(exprs,
		&expr.Dynset{SrcRegKey: regTuple, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_ADD},
		&expr.Immediate{Register: regWork, Data: f.listen.AsSlice()},
		&expr.Immediate{Register: regPort, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.TProxy{Family: f.proto, RegAddr: regWork, RegPort: regPort},
		setMark(), setMarkTo(),
		&expr.Verdict{Kind: expr.VerdictAccept},
	)
}

// kept is the rule for what the container sends on such a flow: it stays here. A
// SYN is another flow's, which has not been announced yet.
func (f family) kept(ifindex uint32, s *nftables.Set) []expr.Any {
	exprs := f.tcp(expr.MetaKeyOIF, ifindex)
	exprs = append(exprs, f.tuple()...)
	exprs = append(exprs, &expr.Lookup{SourceRegister: regTuple, SetName: s.Name, SetID: s.ID})
	exprs = append(exprs, synOnly(expr.CmpOpNeq)...)
	return append(exprs, setMark(), setMarkTo())
}

// tcp matches TCP packets of the family that come or go by the interface.
func (f family) tcp(key expr.MetaKey, ifindex uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: regWork},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regWork, Data: binaryutil.NativeEndian.PutUint32(ifindex)},
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: regWork},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regWork, Data: []byte{f.proto}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: regWork},
		&expr.Cmp{Op: expr.CmpOpEq, Register: regWork, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// tuple loads source, source port, destination and destination port, each at the
// start of a register.
func (f family) tuple() []expr.Any {
	const regLen = 4 // bytes
	words := f.addrLen / regLen
	at := uint32(regTuple)
	load := func(base expr.PayloadBase, offset, size uint32) expr.Any {
		e := &expr.Payload{DestRegister: at, Base: base, Offset: offset, Len: size}
		at += max(1, size/regLen)
		return e
	}
	_ = words
	return []expr.Any{
		load(expr.PayloadBaseNetworkHeader, f.sourceAt, f.addrLen),
		load(expr.PayloadBaseTransportHeader, tcpSourceAt, 2),
		load(expr.PayloadBaseNetworkHeader, f.destAt, f.addrLen),
		load(expr.PayloadBaseTransportHeader, tcpDestAt, 2),
	}
}

// synOnly matches, or with CmpOpNeq does not, the first packet of a connection.
func synOnly(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: regWork, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: regWork, DestRegister: regWork, Len: 1, Mask: []byte{tcpSYN | tcpACK}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: regWork, Data: []byte{tcpSYN}},
	}
}

func setMark() expr.Any {
	return &expr.Immediate{Register: regWork, Data: binaryutil.NativeEndian.PutUint32(mark)}
}

func setMarkTo() expr.Any {
	return &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: regWork}
}

// key returns the tuple as an element of its set.
func (t Tuple) key() []byte {
	pad := func(b []byte, port uint16) []byte { return append(binary.BigEndian.AppendUint16(b, port), 0, 0) }
	b := pad(t.Container.Addr().AsSlice(), t.Container.Port())
	return pad(append(b, t.Remote.Addr().AsSlice()...), t.Remote.Port())
}
