// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Where there is no descriptor left, the least recently used mapping gives its own.
func TestMappingGivesItsDescriptor(t *testing.T) {
	r := newRig(t, options{raw: true})
	_, dst := listenUDP(t, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	send := func(port uint16) {
		p := r.udpPacket(port, dst, 1)
		r.net.udp.ingress(&p, 0, true)
		r.net.pending.flush()
	}
	r.on(func() {
		send(1)
		send(2)
		next, err := unix.FcntlInt(uintptr(r.net.cfg.TapFD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		unix.Close(next)
		low := unix.Rlimit{Cur: uint64(next), Max: limit.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
			t.Error(err)
			return
		}
		send(3)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
	r.on(func() {
		for port, want := range map[uint16]bool{1: false, 2: true, 3: true} {
			key := udpKey{container: netip.AddrPortFrom(r.plan.V4.Container, port)}
			if _, ok := r.net.udp.flows[key]; ok != want {
				t.Errorf("port %d has a mapping: %v, want %v", port, ok, want)
			}
		}
	})
	if n := r.counter("flows_evicted"); n != 1 {
		t.Errorf("%d mappings replaced, want 1", n)
	}
}
