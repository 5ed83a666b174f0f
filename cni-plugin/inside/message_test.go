// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHops reads a route that is two.
func TestHops(t *testing.T) {
	var v View
	v.addHops(netip.MustParsePrefix("::/0"), []byte{
		28, 0, 0, 0, 3, 0, 0, 0, 20, 0, unix.RTA_GATEWAY, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
		28, 0, 0, 0, 4, 0, 0, 0, 20, 0, unix.RTA_GATEWAY, 0, 0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
	})
	if len(v.Routes) != 2 || v.Routes[0].By.String() != "fd00::2" || v.Routes[1].By.String() != "fd01::2" || v.Routes[1].Index != 4 {
		t.Errorf("routes: %+v", v.Routes)
	}
}

// FuzzHops reads what no kernel says, too. Other messages are read by package syscall.
func FuzzHops(f *testing.F) {
	f.Add([]byte{28, 0, 0, 0, 3, 0, 0, 0, 20, 0, unix.RTA_GATEWAY, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		var v View
		v.addHops(netip.MustParsePrefix("::/0"), data)
		if len(v.Routes) > len(data)/unix.SizeofRtNexthop {
			t.Errorf("%d routes of %d bytes", len(v.Routes), len(data))
		}
	})
}
