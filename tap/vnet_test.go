// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"bytes"
	"testing"

	"github.com/slipway-net/slipway/tap"
)

func TestOffloadString(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   tap.Offload
		want string
	}{
		{"none", 0, "none"},
		{"one", tap.OffloadVNet, "vnet"},
		{"all", tap.OffloadVNet | tap.OffloadCSum | tap.OffloadTSO4 | tap.OffloadTSO6 | tap.OffloadUSO, "vnet+csum+tso4+tso6+uso"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.in.String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzVNetHdr(f *testing.F) {
	f.Add(make([]byte, tap.VNetHdrLen))
	f.Add([]byte{tap.VNetNeedsCSum, tap.VNetGSOTCPv4, 54, 0, 0xb4, 5, 34, 0, 16, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < tap.VNetHdrLen {
			return
		}
		var h, again tap.VNetHdr
		h.Decode(b)
		out := make([]byte, tap.VNetHdrLen)
		h.Encode(out)
		again.Decode(out)
		if !bytes.Equal(out, b[:tap.VNetHdrLen]) || again != h {
			t.Errorf("%x became %x", b[:tap.VNetHdrLen], out)
		}
	})
}
