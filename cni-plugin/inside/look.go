// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/slipway-net/slipway/tap"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// answerTimeout is how long the kernel may take to answer. It answers at once.
	answerTimeout = 5 * time.Second
	// bufferSize is room for one message of an answer: the kernel fills at most 32 KiB
	// (NLMSG_GOODSIZE and netlink_dump of net/netlink/af_netlink.c).
	bufferSize = 64 << 10
)

// A View is what there was in the namespace when Look looked.
type View struct {
	Links  []Link
	Routes []Route // of the main table
}

// A Link is an interface.
type Link struct {
	Index int
	Name  string
	Up    bool
	MTU   int // bytes
	MAC   net.HardwareAddr
	Addrs []netip.Prefix // with the bits of the host
}

// A Route is a way to a network.
type Route struct {
	To    netip.Prefix
	By    netip.Addr // the gateway, if any
	Index int        // of the link
}

// Look looks at the network namespace.
func Look(netns string) (*View, error) {
	fd, err := tap.OpenSocket(tap.Target{NetNS: netns}, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(int64(answerTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("look into the network namespace: %w", err)
	}
	var v View
	for _, ask := range []struct {
		what uint16
		data nl.NetlinkRequestData
		add  func(syscall.NetlinkMessage) error
	}{
		{unix.RTM_GETLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), v.addLink},
		{unix.RTM_GETADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC), v.addAddr},
		{unix.RTM_GETROUTE, &nl.RtMsg{}, v.addRoute},
	} {
		req := nl.NewNetlinkRequest(int(ask.what), unix.NLM_F_DUMP)
		req.AddData(ask.data)
		if err := dump(fd, req.Serialize(), ask.add); err != nil {
			return nil, fmt.Errorf("look into the network namespace: %w", err)
		}
	}
	return &v, nil
}

// Link returns the interface of that name, or nil.
func (v *View) Link(name string) *Link {
	for i := range v.Links {
		if v.Links[i].Name == name {
			return &v.Links[i]
		}
	}
	return nil
}

// dump sends a request and calls add for each message of the answer.
func dump(fd int, request []byte, add func(syscall.NetlinkMessage) error) error {
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask the kernel: %w", err)
	}
	buf := make([]byte, bufferSize)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the kernel's answer: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return fmt.Errorf("read the kernel's answer: %w", err)
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return fmt.Errorf("the kernel refuses to answer: %w", refusal(m.Data))
			}
			if err := add(m); err != nil {
				return err
			}
		}
	}
}

// refusal reads errno, which is negative, at the start of an error message.
func refusal(data []byte) error {
	if len(data) < 4 {
		return errors.New("for no reason")
	}
	return unix.Errno(-int32(nl.NativeEndian().Uint32(data)))
}
