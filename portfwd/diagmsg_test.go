// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// message makes a netlink message of a kind, for the query of seq 7.
func message(kind uint16, body []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, nlAlign(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint32(b, uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[8:], 7)
	return append(b, body...)[:cap(b)]
}

// description makes a struct inet_diag_msg.
func description(family, state uint8, local netip.AddrPort, device, uid, inode uint32, attrs ...byte) []byte {
	b := make([]byte, sizeofInetDiagMsg)
	b[0], b[1] = family, state
	binary.BigEndian.PutUint16(b[4:], local.Port())
	copy(b[8:], local.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[40:], device)
	binary.NativeEndian.PutUint32(b[64:], uid)
	binary.NativeEndian.PutUint32(b[68:], inode)
	return append(b, attrs...)
}

func attribute(kind uint16, value ...byte) []byte {
	b := make([]byte, unix.SizeofNlAttr, nlAlign(unix.SizeofNlAttr+len(value)))
	binary.NativeEndian.PutUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	return append(b, value...)[:cap(b)]
}

func code(errno unix.Errno) []byte {
	b := make([]byte, 4)
	binary.NativeEndian.PutUint32(b, uint32(-int32(errno)))
	return b
}

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func TestParseDiag(t *testing.T) {
	ap := netip.MustParseAddrPort
	const diag = unix.SOCK_DIAG_BY_FAMILY
	four := message(diag, description(unix.AF_INET, stateListen, ap("10.0.2.100:80"), 3, 1000, 4242))
	only := message(diag, description(unix.AF_INET6, stateListen, ap("[::]:81"), 0, 0, 1, join(attribute(4, 1, 2, 3), attribute(inetDiagV6Only, 1))...))
	both := message(diag, description(unix.AF_INET6, stateClosed, ap("[::]:82"), 0, 0, 1, attribute(inetDiagV6Only, 0)...))
	mapped := message(diag, description(unix.AF_INET6, stateListen, ap("[::ffff:127.0.0.1]:83"), 0, 0, 1))
	wantFour := diagSocket{proto: unix.IPPROTO_TCP, state: stateListen, local: ap("10.0.2.100:80"), device: 3, uid: 1000, inode: 4242}
	other := append([]byte(nil), four...)
	binary.NativeEndian.PutUint32(other[8:], 8)
	for _, tt := range []struct {
		name string
		b    []byte
		want []diagSocket
		last bool
		err  error
		any  bool // some error
	}{
		{name: "nothing"},
		{name: "the end", b: message(unix.NLMSG_DONE, code(0)), last: true},
		{name: "the end without a code", b: message(unix.NLMSG_DONE, nil), last: true},
		{name: "refused", b: message(unix.NLMSG_ERROR, code(unix.ENOENT)), last: true, err: unix.ENOENT},
		{name: "failed at the end", b: join(four, message(unix.NLMSG_DONE, code(unix.ENOMEM))), want: []diagSocket{wantFour}, last: true, err: unix.ENOMEM},
		{
			name: "all kinds", b: join(four, only, both, mapped, message(unix.NLMSG_DONE, code(0))), last: true,
			want: []diagSocket{
				wantFour,
				{proto: unix.IPPROTO_TCP, state: stateListen, local: ap("[::]:81"), v6: true, v6Only: true, inode: 1},
				{proto: unix.IPPROTO_TCP, state: stateClosed, local: ap("[::]:82"), v6: true, inode: 1},
				{proto: unix.IPPROTO_TCP, state: stateListen, local: ap("127.0.0.1:83"), v6: true, inode: 1},
			},
		},
		{name: "of another query", b: join(other, four), want: []diagSocket{wantFour}},
		{name: "of another kind", b: join(message(unix.NLMSG_NOOP, make([]byte, sizeofInetDiagMsg)), four), want: []diagSocket{wantFour}},
		{name: "too short", b: message(diag, make([]byte, sizeofInetDiagMsg-1))},
		{name: "another family", b: message(diag, description(unix.AF_UNIX, 1, ap("10.0.2.100:80"), 0, 0, 1))},
		{name: "attribute too small", b: message(diag, description(unix.AF_INET, 1, ap("10.0.2.100:80"), 0, 0, 1, 3, 0, 0, 0))},
		{name: "attribute too large", b: message(diag, description(unix.AF_INET, 1, ap("10.0.2.100:80"), 0, 0, 1, 9, 0, 11, 0, 1, 0, 0, 0))},
		{name: "message too small", b: make([]byte, unix.SizeofNlMsghdr), any: true},
		{name: "message too large", b: four[:len(four)-1], any: true},
		{name: "header cut off", b: four[:unix.SizeofNlMsghdr-1]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []diagSocket
			last, err := parseDiag(tt.b, 7, unix.IPPROTO_TCP, func(s diagSocket) { got = append(got, s) })
			if ok := errors.Is(err, tt.err); tt.any && err == nil || !tt.any && !ok {
				t.Errorf("parseDiag: %v, want %v", err, tt.err)
			}
			if last != tt.last {
				t.Errorf("parseDiag: last is %v, want %v", last, tt.last)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(diagSocket{}), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("sockets (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEncodeQuery compares with what the kernel reads.
func TestEncodeQuery(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	got := hex.EncodeToString(diagQuery{family: unix.AF_INET6, proto: unix.IPPROTO_TCP, states: 1 << stateListen, port: 80}.encode(7))
	want := "48000000" + "1400" + "0103" + "07000000" + "00000000" + "0a060000" + "00040000" + "0050"
	if got[:len(want)] != want || len(got) != 2*0x48 {
		t.Errorf("the query is\n%s, want\n%s and zeros", got, want)
	}
}

// FuzzParseDiag makes no more sockets of the bytes than are in them, and comes to an
// end.
func FuzzParseDiag(f *testing.F) {
	four := description(unix.AF_INET, stateListen, netip.MustParseAddrPort("10.0.2.100:80"), 3, 1000, 4242)
	six := description(unix.AF_INET6, stateListen, netip.MustParseAddrPort("[::]:81"), 0, 0, 1, attribute(inetDiagV6Only, 1)...)
	f.Add(join(message(unix.SOCK_DIAG_BY_FAMILY, four), message(unix.SOCK_DIAG_BY_FAMILY, six), message(unix.NLMSG_DONE, code(0))))
	f.Add(message(unix.NLMSG_ERROR, code(unix.ENOENT)))
	f.Add(join(message(unix.SOCK_DIAG_BY_FAMILY, six)[:90], []byte{0xff, 0xff, 0, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		last, err := parseDiag(b, 7, unix.IPPROTO_UDP, func(s diagSocket) {
			n++
			if !s.local.IsValid() || s.local.Addr().Is4In6() || s.local.Addr().Zone() != "" {
				t.Errorf("a socket at %v", s.local)
			}
		})
		if most := len(b) / (unix.SizeofNlMsghdr + sizeofInetDiagMsg); n > most {
			t.Errorf("%d sockets in %d bytes", n, len(b))
		}
		if errno, ok := err.(unix.Errno); ok && (errno == 0 || !last) {
			t.Errorf("the kernel's error %d, last is %v", errno, last)
		}
	})
}
