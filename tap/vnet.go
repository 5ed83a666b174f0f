// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// VNetHdrLen is the length in bytes of the virtio-net header that precedes each
// frame on a tap opened with IFF_VNET_HDR (struct virtio_net_hdr in
// include/uapi/linux/virtio_net.h; the kernel's default TUNSETVNETHDRSZ).
const VNetHdrLen = 10

// Flags of a VNetHdr.
const (
	// VNetNeedsCSum: the checksum field holds the pseudo-header's sum only; the
	// receiver of the frame adds the rest from CSumStart on.
	VNetNeedsCSum = 1
	// VNetDataValid: the checksum was verified already.
	VNetDataValid = 2
)

// GSO types of a VNetHdr.
const (
	VNetGSONone  = 0
	VNetGSOTCPv4 = 1
	VNetGSOTCPv6 = 4
	VNetGSOUDPL4 = 5
	// VNetGSOECN is or-ed to a TCP type: the first segment has CWR set.
	VNetGSOECN = 0x80
)

// A VNetHdr is the decoded virtio-net header of one frame. The zero VNetHdr is
// that of a plain frame with complete checksums.
type VNetHdr struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // bytes: all headers of the frame, Ethernet to transport
	GSOSize    uint16 // bytes: payload of each segment the frame stands for
	CSumStart  uint16 // bytes from the start of the frame
	CSumOffset uint16 // bytes from CSumStart
}

// Decode reads the header from the first VNetHdrLen bytes of b, which must have
// that many. Fields are in the machine's byte order (TUNSETVNETLE is not used).
func (h *VNetHdr) Decode(b []byte) {
	_ = b[VNetHdrLen-1]
	h.Flags = b[0]
	h.GSOType = b[1]
	h.HdrLen = binary.NativeEndian.Uint16(b[2:])
	h.GSOSize = binary.NativeEndian.Uint16(b[4:])
	h.CSumStart = binary.NativeEndian.Uint16(b[6:])
	h.CSumOffset = binary.NativeEndian.Uint16(b[8:])
}

// Encode writes the header into the first VNetHdrLen bytes of b, which must have
// that many.
func (h *VNetHdr) Encode(b []byte) {
	_ = b[VNetHdrLen-1]
	b[0] = h.Flags
	b[1] = h.GSOType
	binary.NativeEndian.PutUint16(b[2:], h.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], h.CSumStart)
	binary.NativeEndian.PutUint16(b[8:], h.CSumOffset)
}

// Offload is the set of segmentation and checksum offloads that the kernel
// granted on the tap: the zero Offload is a tap of plain frames. In a Config it is
// the most to ask for.
type Offload uint8

// The offloads, each of which stands on the one before it (TUN_F_* in
// include/uapi/linux/if_tun.h).
const (
	OffloadVNet Offload = 1 << iota // frames have a VNetHdr
	OffloadCSum                     // the kernel takes and gives partial checksums
	OffloadTSO4                     // … TCP over IPv4 super-frames
	OffloadTSO6                     // … TCP over IPv6 super-frames
	OffloadUSO                      // … UDP super-frames, both families (Linux 6.2)
)

// OffloadNone asks, in a Config, for a tap of plain frames, where the zero
// Offload asks for everything. It is never granted: that is the zero Offload.
const OffloadNone Offload = 1 << 7

// Has reports whether all of the offloads in x were granted.
func (o Offload) Has(x Offload) bool { return o&x == x }

// String names the offloads, as the log shows them.
func (o Offload) String() string {
	names := [...]string{"vnet", "csum", "tso4", "tso6", "uso"}
	s := ""
	for i, n := range names {
		if o.Has(1 << i) {
			if s != "" {
				s += "+"
			}
			s += n
		}
	}
	if s == "" {
		return "none"
	}
	return s
}

// steps returns the sets of offloads to ask for, best first, none above o.
func (o Offload) steps() []Offload {
	const tso = OffloadVNet | OffloadCSum | OffloadTSO4 | OffloadTSO6
	var out []Offload
	for _, most := range []Offload{tso | OffloadUSO, tso, OffloadVNet | OffloadCSum, OffloadVNet} {
		if s := o & most; len(out) == 0 || s != out[len(out)-1] {
			out = append(out, s)
		}
	}
	return out
}

// tunFlags returns the argument of TUNSETOFFLOAD that asks for o.
func (o Offload) tunFlags() uintptr {
	var f uintptr
	for _, e := range []struct {
		offload Offload
		flags   uintptr
	}{
		{OffloadCSum, unix.TUN_F_CSUM},
		{OffloadTSO4, unix.TUN_F_TSO4},
		{OffloadTSO6, unix.TUN_F_TSO6},
		{OffloadUSO, unix.TUN_F_USO4 | unix.TUN_F_USO6},
	} {
		if o.Has(e.offload) {
			f |= e.flags
		}
	}
	return f
}
