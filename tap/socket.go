// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenSocket makes a socket in the target, which stays there: by a netlink socket of
// NETLINK_ROUTE, for example, anybody can look at the target's interfaces. The caller
// closes it; until then it keeps the target alive. The errors match ErrTarget where the
// target cannot be entered.
func OpenSocket(t Target, domain, kind, protocol int) (int, error) {
	ns, err := t.open()
	if err != nil {
		return -1, err
	}
	defer ns.close()
	sc, err := newScript()
	if err != nil {
		return -1, err
	}
	defer sc.close()
	s := &setup{script: sc, ns: ns, way: pinned}
	s.enter()
	args := [4]uintptr{uintptr(domain), uintptr(kind | unix.SOCK_CLOEXEC), uintptr(protocol)}
	s.add("make a socket", step{op: opCall, call: unix.SYS_SOCKET, args: args, in: noReg, out: regInner})
	if err := s.run(); err != nil {
		return -1, fmt.Errorf("make a socket in the network namespace of %s: %w", t, err)
	}
	return s.take(regInner), nil
}
