// SPDX-License-Identifier: Apache-2.0

package netstack

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// BenchmarkTCPPump carries bytes through a whole connection: the container is a
// second stack in this process, which costs about as much again.
func BenchmarkTCPPump(b *testing.B) {
	for _, mtu := range []int{1500, 65520} {
		r := newRig(b, options{mtu: mtu, quiet: true})
		f := families(r)["IPv4"]
		for name, up := range map[string]bool{"up": true, "down": false} {
			b.Run(fmt.Sprintf("%s/MTU %d", name, mtu), func(b *testing.B) {
				inside, outside := connect(b, r, f.loopback, f.gateway)
				from, to := io.ReadWriteCloser(outside), io.ReadWriteCloser(inside)
				if up {
					from, to = inside, outside
				}
				chunk := make([]byte, 64<<10)
				read := make(chan struct{})
				go func() {
					defer close(read)
					buf := make([]byte, 256<<10)
					for {
						if _, err := to.Read(buf); err != nil {
							return
						}
					}
				}()
				b.ReportAllocs()
				b.SetBytes(int64(len(chunk)))
				done := reportCPU(b)
				for b.Loop() {
					if _, err := from.Write(chunk); err != nil {
						b.Fatal(err)
					}
				}
				from.Close()
				<-read
				done()
			})
		}
	}
}

// BenchmarkTCPRoundTrip sends messages there and back through one connection.
func BenchmarkTCPRoundTrip(b *testing.B) {
	for _, size := range []int{1, 16 << 10} {
		r := newRig(b, options{mtu: 65520, quiet: true})
		f := families(r)["IPv4"]
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			inside, outside := connect(b, r, f.loopback, f.gateway)
			go func() {
				buf := make([]byte, size)
				for {
					if _, err := io.ReadFull(outside, buf); err != nil {
						return
					}
					outside.Write(buf)
				}
			}()
			buf := make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(2 * int64(size))
			done := reportCPU(b)
			for b.Loop() {
				inside.Write(buf)
				if _, err := io.ReadFull(inside, buf); err != nil {
					b.Fatal(err)
				}
			}
			done()
		})
	}
}

// BenchmarkTCPRefused is what a SYN costs that the policy refuses: the gate and
// the RST, without a socket.
func BenchmarkTCPRefused(b *testing.B) {
	r := newRig(b, options{own: true, quiet: true})
	r.net.link.fd = nullLink(b, offloadAll).fd
	dst := netip.AddrPortFrom(r.plan.V4.DNS, 80)
	frame := r.segment(dst, 40000, header.TCPFlagSyn, header.TCPMinimumSize)
	r.on(func() {
		b.ReportAllocs()
		for b.Loop() {
			p, _ := parsePacket(frame[ethernetLen:], nil)
			r.net.tcp.ingress(&p, frame[ethernetLen:])
		}
	})
}

// BenchmarkTCPConnection opens and closes connections that carry one byte each
// way, a number of them at a time: the container's end is written by hand and
// costs next to nothing, the host's is a listener in this process.
func BenchmarkTCPConnection(b *testing.B) {
	for _, atOnce := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d at once", atOnce), func(b *testing.B) {
			r := newRig(b, options{own: true, quiet: true, mtu: 65520})
			l, dst := listen(b, netip.MustParseAddr("127.0.0.1"), r.plan.V4.Gateway)
			go serveBytes(l)
			c := newHandmade(b, r, dst)
			b.ReportAllocs()
			done := reportCPU(b)
			for b.Loop() {
				c.open()
				for len(c.conns) >= atOnce {
					c.step(b)
				}
			}
			for len(c.conns) > 0 {
				c.step(b)
			}
			done()
		})
	}
}

// serveBytes answers the bytes of each connection and closes after its client.
func serveBytes(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 1)
			for {
				if _, err := c.Read(buf); err != nil {
					return
				}
				c.Write(buf)
			}
		}()
	}
}

// A handmade container speaks just enough TCP for short connections.
type handmade struct {
	rig   *rig
	dst   netip.AddrPort
	port  uint16
	conns map[uint16]*handmadeConn
	raw   syscall.RawConn // of the link's descriptor, to wait as other goroutines do
	in    rx
	seg   [header.TCPMinimumSize + 4 + 1]byte
}

// handmadeConn is one connection: what it sends and expects next.
type handmadeConn struct {
	seq, ack uint32
	closing  bool
}

// firstPort is the lowest port that a handmade container connects from.
const firstPort = 1024

func newHandmade(b *testing.B, r *rig, dst netip.AddrPort) *handmade {
	b.Helper()
	fd, err := unix.FcntlInt(uintptr(r.link.fd), unix.F_DUPFD_CLOEXEC, 0)
	must(b, err)
	file := os.NewFile(uintptr(fd), "link")
	b.Cleanup(func() { file.Close() })
	raw, err := file.SyscallConn()
	must(b, err)
	return &handmade{rig: r, dst: dst, conns: make(map[uint16]*handmadeConn), raw: raw}
}

func (h *handmade) open() {
	for h.port = max(firstPort, h.port+1); h.conns[h.port] != nil; h.port = max(firstPort, h.port+1) {
	}
	c := &handmadeConn{seq: uint32(len(h.conns)) + uint32(h.port)<<16}
	h.conns[h.port] = c
	h.send(h.port, c, header.TCPFlagSyn, 0)
	c.seq++
}

// step takes one frame and answers it.
func (h *handmade) step(b *testing.B) {
	var n int
	var errno unix.Errno
	must(b, h.raw.Read(func(uintptr) bool {
		n, errno = h.rig.link.read(&h.in)
		return errno != unix.EAGAIN
	}))
	p, ok := parsePacket(h.in.head.AsSlice()[ethernetLen:min(n, headLen)], nil)
	if errno != 0 || !ok || p.proto != protoTCP {
		return
	}
	t := header.TCP(p.l4)
	c := h.conns[t.DestinationPort()]
	if c == nil {
		return
	}
	flags := t.Flags()
	payload := uint32(p.len() - int(t.DataOffset()))
	switch {
	case flags&header.TCPFlagRst != 0:
		b.Fatal("connection reset")
	case flags&header.TCPFlagSyn != 0:
		c.ack = t.SequenceNumber() + 1
		h.send(t.DestinationPort(), c, header.TCPFlagAck|header.TCPFlagPsh, 1)
		c.seq++
	case t.SequenceNumber() != c.ack:
	case flags&header.TCPFlagFin != 0:
		c.ack += payload + 1
		h.send(t.DestinationPort(), c, header.TCPFlagAck, 0)
		delete(h.conns, t.DestinationPort())
	case payload > 0 && !c.closing:
		c.closing = true
		c.ack += payload
		h.send(t.DestinationPort(), c, header.TCPFlagFin|header.TCPFlagAck, 0)
		c.seq++
	}
}

func (h *handmade) send(port uint16, c *handmadeConn, flags header.TCPFlags, payload int) {
	n := header.TCPMinimumSize
	if flags == header.TCPFlagSyn {
		header.EncodeMSSOption(1460, h.seg[n:])
		n += 4
	}
	header.TCP(h.seg[:]).Encode(&header.TCPFields{
		SrcPort: port, DstPort: h.dst.Port(), SeqNum: c.seq, AckNum: c.ack,
		DataOffset: uint8(n), Flags: flags, WindowSize: 65535,
	})
	src := h.rig.plan.V4.Container
	sum := header.PseudoHeaderChecksum(protoTCP, tcpipAddr(src), tcpipAddr(h.dst.Addr()), uint16(n+payload))
	binary.BigEndian.PutUint16(h.seg[header.TCPChecksumOffset:], ^checksum.Checksum(h.seg[:n+payload], sum))
	h.rig.send(frameOf(h.rig, ipHeader{src: src, dst: h.dst.Addr(), proto: protoTCP, ttl: 64}, h.seg[:n+payload]))
}
