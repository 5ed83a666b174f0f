// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/slipway-net/slipway/tap/seqpacket"
	"golang.org/x/sys/unix"
)

// Limits of what a member says.
const (
	// MaxMembers is how many containers a network may have: the list of them must
	// fit into one message.
	MaxMembers = 120
	// MaxNames is how many names a member may have.
	MaxNames = 8
	// maxName is the longest name in bytes, a label of the DNS (RFC 1035 §2.3.4).
	maxName = 63
	// maxMessage is the longest message in bytes: a list of MaxMembers members with
	// MaxNames names each, and some.
	maxMessage = 128 << 10
)

// Kinds of messages; see the package's documentation.
const (
	kindHello   = "hello"
	kindWelcome = "welcome"
	kindRefused = "refused"
	kindAttach  = "attach"
	kindMembers = "members"
)

// A Station is what a member is on the network.
type Station struct {
	MAC   net.HardwareAddr `json:"mac"`
	Addrs []netip.Prefix   `json:"addrs"` // with the length of the network's prefix; IPv4 first
}

// A Record is a member as the others see it.
type Record struct {
	Names []string     `json:"names"`
	Addrs []netip.Addr `json:"addrs"`
}

// A message goes between a member and the switch. The fields that its kind does not
// need are left out.
type message struct {
	Kind    string   `json:"kind"`
	Names   []string `json:"names,omitempty"`
	Station *Station `json:"station,omitempty"` // of welcome; of hello: the one it was before
	Members []Record `json:"members,omitempty"`
	Error   string   `json:"error,omitempty"` // of refused
}

// errClosed is the end of the other side.
var errClosed = errors.New("the other side has closed")

// send sends one message, with a descriptor if fd is not negative. It does not wait:
// the error is EAGAIN where the other side does not read.
func send(sock int, m message, fd int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("message of %d bytes, %d at most", len(b), maxMessage)
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		err = unix.Sendmsg(sock, b, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

// receive receives one message, and a descriptor, which is the caller's, or -1. Where
// the socket is non-blocking the error may be EAGAIN.
func receive(sock int, buf []byte) (message, int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, err := seqpacket.Recvmsg(sock, buf, oob)
	if err != nil {
		return message{}, -1, os.NewSyscallError("recvmsg", err)
	}
	fd := passed(oob[:oobn])
	if n == 0 && fd < 0 {
		return message{}, -1, errClosed
	}
	m, err := parse(buf[:n])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("message too long")
	}
	if err != nil && fd >= 0 {
		unix.Close(fd)
		fd = -1
	}
	return m, fd, err
}

// parse reads a message, and holds it to the limits.
func parse(b []byte) (message, error) {
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return message{}, fmt.Errorf("read message: %w", err)
	}
	if err := checkNames(m.Names); err != nil {
		return message{}, err
	}
	if len(m.Members) > MaxMembers {
		return message{}, fmt.Errorf("%d members, %d at most", len(m.Members), MaxMembers)
	}
	for _, r := range m.Members {
		if err := checkNames(r.Names); err != nil {
			return message{}, err
		}
	}
	return m, nil
}

// checkNames says what of the names cannot be.
func checkNames(names []string) error {
	if len(names) > MaxNames {
		return fmt.Errorf("%d names for a container on a network: %d at most", len(names), MaxNames)
	}
	for _, n := range names {
		if err := CheckName(n); err != nil {
			return err
		}
	}
	return nil
}

// CheckName says why name is none that a member, or a network, can have: it is one
// label of the DNS of letters, digits, hyphens, underscores and, for what other
// container tools allow, dots inside.
func CheckName(name string) error {
	ok := name != "" && len(name) <= maxName && strings.Trim(name, "-._") == name && !strings.Contains(name, "..")
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	}
	if !ok {
		return fmt.Errorf("name %q: want up to %d letters, digits, hyphens, underscores and dots, the first and last a letter or digit", name, maxName)
	}
	return nil
}

// passed returns the descriptor in a control message, or -1. Others are closed.
func passed(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1
	}
	got := -1
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if got < 0 {
				got = fd
			} else {
				unix.Close(fd)
			}
		}
	}
	return got
}
