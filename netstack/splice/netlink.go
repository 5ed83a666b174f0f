// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"encoding/binary"
	"fmt"
	"io"
	"syscall"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A conn is a netlink socket that was made in the container's network namespace,
// where it stays whoever uses it. The kernel asks for the right both of whom made
// it and of whom sends (net/netlink/af_netlink.c, netlink_ns_capable): we have it
// as the owner of the container's user namespace, or by CAP_NET_ADMIN in it.
type conn struct {
	fd    int
	seq   uint32
	table byte // flags of the tables that are made by it
	fresh bool // a table that is there already is an error
}

const (
	// answerSize is room for an answer of the kernel's in bytes: the error of a
	// request, without the request, and a little more.
	answerSize = 8 << 10
	// maxAnswers is how many are read for one request. More than the kernel has for
	// any of ours would be somebody else's.
	maxAnswers = 1024
)

// open makes the kernel the socket's only peer. Root in the container may send to
// any netlink socket there (net/netlink/af_netlink.c, netlink_sendmsg), and could
// forge answers; a connected socket takes none but its peer's
// (netlink_getsockbyportid). What came before is thrown away.
func (c *conn) open() error {
	if err := unix.Connect(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("connect netlink socket: %w", err)
	}
	// Errors come without the request, which may be larger than our buffer.
	if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return fmt.Errorf("set NETLINK_CAP_ACK: %w", err)
	}
	_ = c.acks()
	return nil
}

// send sends messages in one datagram, which the kernel handles before it returns.
func (c *conn) send(b []byte) error {
	if err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send netlink message: %w", err)
	}
	return nil
}

// acks reads answers until there are none, and returns the first error in them.
// The kernel has answered by the time that send returns.
func (c *conn) acks() error {
	var buf [answerSize]byte
	var first error
	for range maxAnswers {
		n, from, err := unix.Recvfrom(c.fd, buf[:], unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return first
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("read netlink answer: %w", err)
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue
		}
		if err := firstError(buf[:n]); first == nil {
			first = err
		}
	}
	return first
}

// firstError returns the first error in a datagram of answers (struct nlmsgerr,
// include/uapi/linux/netlink.h).
func firstError(b []byte) error {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return fmt.Errorf("netlink answer of %d bytes claims %d", len(b), size)
		}
		kind := binary.NativeEndian.Uint16(b[4:])
		if kind == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
			if code := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); code < 0 {
				return unix.Errno(-code)
			}
		}
		b = b[min(len(b), nlAlign(size)):]
	}
	return nil
}

func nlAlign(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// request sends one message and returns the kernel's verdict.
func (c *conn) request(req *nl.NetlinkRequest) error {
	c.seq++
	req.Seq = c.seq
	if err := c.send(req.Serialize()); err != nil {
		return err
	}
	return c.acks()
}

// ruleset returns what collects changes to nftables; its Flush makes them through
// our socket, as one transaction. The library has its own sockets otherwise, which
// it can make in the container only by joining it: hence the hook.
func (c *conn) ruleset() (*nftables.Conn, error) {
	return nftables.New(nftables.WithTestDial(func(msgs []netlink.Message) ([]netlink.Message, error) {
		if len(msgs) == 0 {
			return nil, io.EOF
		}
		var b []byte
		for _, m := range msgs {
			c.own(&m)
			one, err := m.MarshalBinary()
			if err != nil {
				return nil, fmt.Errorf("encode netlink message: %w", err)
			}
			b = append(b, one...)
		}
		if err := c.send(b); err != nil {
			return nil, err
		}
		if err := c.acks(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}))
}

// tables returns the names of the nftables tables of a family (NFPROTO_*).
func (c *conn) tables(family uint8) ([]string, error) {
	c.seq++
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP)
	req.Seq = c.seq
	req.AddRawData([]byte{family, unix.NFNETLINK_V0, 0, 0}) // struct nfgenmsg
	if err := c.send(req.Serialize()); err != nil {
		return nil, err
	}
	var names []string
	buf := make([]byte, answerSize)
	for range maxAnswers {
		n, from, err := unix.Recvfrom(c.fd, buf, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the list of nftables tables: %w", err)
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue
		}
		some, last, err := tableNames(buf[:n])
		if names = append(names, some...); last || err != nil {
			return names, err
		}
	}
	return nil, fmt.Errorf("the list of nftables tables has more than %d parts", maxAnswers)
}

// tableNames reads a part of the list of tables, and reports whether it is the last.
func tableNames(b []byte) (names []string, last bool, err error) {
	const generic = 4 // bytes of struct nfgenmsg
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, false, fmt.Errorf("read the list of nftables tables: %w", err)
	}
	for _, m := range msgs {
		switch {
		case m.Header.Type == unix.NLMSG_DONE:
			return names, true, nil
		case m.Header.Type == unix.NLMSG_ERROR:
			return names, true, firstError(b)
		case len(m.Data) < generic:
			continue
		}
		attrs, err := nl.ParseRouteAttr(m.Data[generic:])
		if err != nil {
			return nil, false, fmt.Errorf("read the list of nftables tables: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NFTA_TABLE_NAME {
				names = append(names, nl.BytesToString(a.Value))
			}
		}
	}
	return names, false, nil
}

// nftTableFlagOwner makes a table its maker's (NFT_TABLE_F_OWNER,
// include/uapi/linux/netfilter/nf_tables.h; Linux 5.12): it goes when our socket
// is closed, however we end, and nobody else can change or flush it.
const nftTableFlagOwner = 2

// nftTableFlagPersist keeps such a table when our socket is closed
// (NFT_TABLE_F_PERSIST, Linux 6.9).
const nftTableFlagPersist = 4

// own sets the flags in the message that makes the table. The library sends none,
// but as the last attribute of four zero bytes.
func (c *conn) own(m *netlink.Message) {
	if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE {
		m.Data[len(m.Data)-1] = c.table
		if c.fresh {
			m.Header.Flags |= netlink.Excl
		}
	}
}
