// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The benchmarks of the hot path need no privilege: the tap is a socket pair, or
// /dev/null where only our own work is to be measured. Other processes on the
// machine spoil times; those that cross threads report CPU time as well.

// cpuTime returns the processor time that the process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU reports the processor time for each operation since it was called.
func reportCPU(b *testing.B) (done func()) {
	b.Helper()
	began := cpuTime(b)
	return func() { b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op") }
}

// nullLink is a link whose frames go nowhere.
func nullLink(b *testing.B, offload tap.Offload) *link {
	b.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(b, err)
	b.Cleanup(func() { unix.Close(fd) })
	return &link{fd: fd, mtu: 65520, offload: offload, count: &counters{}}
}

// benchPacket is an IP packet with a transport header of hdr bytes and size bytes
// of payload.
func benchPacket(src, dst netip.Addr, proto uint8, size int) []byte {
	body := make([]byte, size)
	h := ipHeader{src: src, dst: dst, proto: proto, ttl: 64}
	if src.Is4() {
		b := make([]byte, ipv4MinLen, ipv4MinLen+size)
		putIPv4(b, h, size, 1)
		return append(b, body...)
	}
	b := make([]byte, ipv6Len, ipv6Len+size)
	putIPv6(b, h, size)
	return append(b, body...)
}

func BenchmarkParsePacket(b *testing.B) {
	for _, f := range []struct{ name, src, dst string }{
		{"IPv4", "10.0.2.100", "198.51.100.1"}, {"IPv6", "fd00::100", "2001:db8::1"},
	} {
		b.Run(f.name, func(b *testing.B) {
			pkt := benchPacket(netip.MustParseAddr(f.src), netip.MustParseAddr(f.dst), protoTCP, 20)
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := parsePacket(pkt, nil); !ok {
					b.Fatal("not parsed")
				}
			}
		})
	}
}

// BenchmarkIngress sorts frames that end at the link: what each costs before the
// handler of its protocol has it.
func BenchmarkIngress(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	for _, f := range []struct {
		name  string
		frame []byte
	}{
		{"SCTP", frameOf(r, ipHeader{src: r.plan.V4.Container, dst: r.plan.V4.Gateway, proto: 132, ttl: 64}, make([]byte, 64))},
		{"SCTP6", frameOf(r, ipHeader{src: r.plan.V6.Container, dst: r.plan.V6.Gateway, proto: 132, ttl: 64}, make([]byte, 64))},
		{"malformed", frameOf(r, ipHeader{src: r.plan.V4.Container, dst: r.plan.V4.Gateway, proto: protoUDP, ttl: 64}, make([]byte, 4))},
	} {
		b.Run(f.name, func(b *testing.B) {
			r.on(func() {
				in := rx{head: buffer.NewViewSize(headLen), data: buffer.NewViewSize(frameRest)}
				copy(in.head.AsSlice(), f.frame)
				was := r.net.rx
				r.net.rx = in
				b.ReportAllocs()
				for b.Loop() {
					r.net.ingress(len(f.frame))
				}
				r.net.rx = was
			})
		})
	}
}

func BenchmarkLink(b *testing.B) {
	for _, size := range []int{64, 1500, 65000} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		must(b, err)
		must(b, unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20))
		out := &link{fd: fds[0], offload: offloadAll, count: &counters{}}
		in := &link{fd: fds[1], offload: offloadAll, count: &counters{}}
		frame := make([]byte, size)
		b.Run(fmt.Sprintf("write and read/%d", size), func(b *testing.B) {
			var vh tap.VNetHdr
			var r rx
			parts := [][]byte{frame[:ethernetLen], frame[ethernetLen:]}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if !out.write(&vh, parts) {
					b.Fatal("not written")
				}
				if n, errno := in.read(&r); errno != 0 || n != size {
					b.Fatalf("read %d bytes, %v", n, errno)
				}
			}
		})
		unix.Close(fds[0])
		unix.Close(fds[1])
	}
}

// BenchmarkEmitUDP makes datagrams for the container, with and without the
// kernel's help with their checksums.
func BenchmarkEmitUDP(b *testing.B) {
	for name, offload := range map[string]tap.Offload{"offload": offloadAll, "checksum": tap.OffloadVNet} {
		for _, size := range []int{64, 1400, 60000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				e := emitter{link: nullLink(b, offload)}
				h := ipHeader{src: netip.MustParseAddr("198.51.100.1"), dst: netip.MustParseAddr("10.0.2.100")}
				payload := make([]byte, size)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					e.udp(h, 53, 40000, 0, payload)
				}
			})
		}
	}
}

// BenchmarkICMPError answers a packet that goes nowhere.
func BenchmarkICMPError(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	for family, f := range families(r) {
		b.Run(family, func(b *testing.B) {
			p := packet{
				src: r.plan.Of(f.gateway).Container, dst: f.gateway, proto: protoUDP, ttl: 64,
				l4: make([]byte, header.UDPMinimumSize),
			}
			r.on(func() {
				b.ReportAllocs()
				for b.Loop() {
					r.net.report(&p, portUnreachable)
				}
			})
		})
	}
}
