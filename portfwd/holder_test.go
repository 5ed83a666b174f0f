// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestHolderUnseen is about sockets whose process cannot be found.
func TestHolderUnseen(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:80")
	me := uint32(os.Getuid())
	for _, tt := range []struct {
		name   string
		s      diagSocket
		host   netip.Addr
		says   string
		socket uint32
	}{
		{"another user's", diagSocket{local: at, uid: 4242, inode: math.MaxUint32}, at.Addr(), ": by another user's process (uid 4242): stop it", 0},
		{"another user's, at part of it", diagSocket{local: at, uid: 4242, inode: math.MaxUint32}, netip.Addr{}, " at 127.0.0.1: by another user's process (uid 4242)", 0},
		{"of nobody's any more", diagSocket{local: at, uid: me}, at.Addr(), ": by a process that cannot be seen from here", 0},
		{"the user's own", diagSocket{local: at, uid: me, inode: math.MaxUint32}, at.Addr(), ": by a process that cannot be seen from here", math.MaxUint32},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, socket := tt.s.holder(tt.host); !strings.HasPrefix(got, tt.says) || socket != tt.socket {
				t.Errorf("holder: %q and socket %d, want it to begin with %q, and %d", got, socket, tt.says, tt.socket)
			}
		})
	}
}
