// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// answer makes a message of the kind, with a code as struct nlmsgerr has it.
func answer(kind uint16, size uint32, code int32) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+4)
	binary.NativeEndian.PutUint32(b, size)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr:], uint32(code))
	return b
}

func TestFirstError(t *testing.T) {
	const whole = unix.SizeofNlMsghdr + 4
	ack := answer(unix.NLMSG_ERROR, whole, 0)
	refused := answer(unix.NLMSG_ERROR, whole, -int32(unix.EPERM))
	gone := answer(unix.NLMSG_ERROR, whole, -int32(unix.ENOENT))
	concat := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
		any  bool // some error
	}{
		{name: "nothing"},
		{name: "acknowledged", b: ack},
		{name: "refused", b: refused, want: unix.EPERM},
		{name: "the second of three", b: concat(ack, gone, refused), want: unix.ENOENT},
		{name: "no error message", b: answer(unix.NLMSG_DONE, whole, -1)},
		{name: "size too small", b: answer(unix.NLMSG_ERROR, unix.SizeofNlMsghdr-1, 0), any: true},
		{name: "size too large", b: answer(unix.NLMSG_ERROR, whole+1, 0), any: true},
		{name: "size of the largest", b: answer(unix.NLMSG_ERROR, ^uint32(0), 0), any: true},
		{name: "without a code", b: answer(unix.NLMSG_ERROR, unix.SizeofNlMsghdr, 0)[:unix.SizeofNlMsghdr]},
		{name: "header cut off", b: ack[:unix.SizeofNlMsghdr-1]},
		{name: "unaligned at the end", b: append(answer(unix.NLMSG_ERROR, whole+1, 0), 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := firstError(tt.b); tt.any != (err != nil) && err != tt.want {
				t.Errorf("firstError: %v, want %v", err, tt.want)
			} else if tt.want != nil && err != tt.want {
				t.Errorf("firstError: %v, want %v", err, tt.want)
			}
		})
	}
}

// FuzzFirstError finds no error without one in the bytes, and comes to an end.
func FuzzFirstError(f *testing.F) {
	const whole = unix.SizeofNlMsghdr + 4
	f.Add(answer(unix.NLMSG_ERROR, whole, 0))
	f.Add(answer(unix.NLMSG_ERROR, whole, -int32(unix.EPERM)))
	f.Add(append(answer(unix.NLMSG_ERROR, whole+1, 0), 0, 1, 2))
	f.Add(answer(unix.NLMSG_ERROR, 0, -1))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := firstError(b)
		if errno, ok := err.(unix.Errno); ok && errno == 0 {
			t.Error("an error that is none")
		}
		if err != nil && len(b) < unix.SizeofNlMsghdr {
			t.Errorf("%v in %d bytes", err, len(b))
		}
	})
}

// TestTupleKey compares with what the kernel concatenates: each part fills whole
// registers of four bytes, in network order.
func TestTupleKey(t *testing.T) {
	for _, tt := range []struct{ name, from, to, want string }{
		{"IPv4", "10.0.2.100:43690", "192.0.2.1:443", "0a000264" + "aaaa0000" + "c0000201" + "01bb0000"},
		{"IPv6", "[fd00::100]:1", "[2001:db8::1]:65535",
			"fd000000000000000000000000000100" + "00010000" + "20010db8000000000000000000000001" + "ffff0000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tuple := Tuple{Container: netip.MustParseAddrPort(tt.from), Remote: netip.MustParseAddrPort(tt.to)}
			if got := hex.EncodeToString(tuple.key()); got != tt.want {
				t.Errorf("the key is\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// FuzzTupleKey keeps tuples apart.
func FuzzTupleKey(f *testing.F) {
	f.Add([]byte{10, 0, 2, 100}, []byte{192, 0, 2, 1}, uint16(1), uint16(2), uint16(3), uint16(4))
	f.Fuzz(func(t *testing.T, a, b []byte, p1, p2, q1, q2 uint16) {
		from, ok1 := netip.AddrFromSlice(a)
		to, ok2 := netip.AddrFromSlice(b)
		if !ok1 || !ok2 || from.Is4() != to.Is4() {
			return
		}
		one := Tuple{netip.AddrPortFrom(from, p1), netip.AddrPortFrom(to, p2)}
		two := Tuple{netip.AddrPortFrom(from, q1), netip.AddrPortFrom(to, q2)}
		k1, k2 := one.key(), two.key()
		if len(k1) != 2*(len(a)+4) {
			t.Errorf("%d bytes of key for addresses of %d", len(k1), len(a))
		}
		if (string(k1) == string(k2)) != (one == two) {
			t.Errorf("%v and %v have keys %x and %x", one, two, k1, k2)
		}
	})
}
