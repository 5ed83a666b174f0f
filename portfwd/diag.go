// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
)

// A Listening is a socket that waits for clients: of TCP one that listens, of UDP
// one that is bound and not connected.
type Listening struct {
	Proto Proto
	// Local is what it is bound to.
	Local netip.AddrPort
	// Both means that it is bound to :: and takes IPv4 as well.
	Both bool
}

// A Source tells what listens in the container. A Follower calls it from one
// goroutine.
type Source interface {
	// Listening calls each with every socket. After an error they may not have been
	// all.
	Listening(each func(Listening)) error
}

// A Diag is the Source for a network namespace, by sock_diag(7). Sockets that are
// bound to an interface are left out: a DHCP client's is no service. It is not safe
// for concurrent use. Make it with NewDiag.
type Diag struct{ conn *diagConn }

// DiagSocket is the socket that NewDiag needs, made in the namespace: for
// tap.Config.Inside. It takes no privilege to use.
func DiagSocket() tap.Socket {
	return tap.Socket{Domain: unix.AF_NETLINK, Type: unix.SOCK_RAW, Protocol: unix.NETLINK_SOCK_DIAG}
}

// NewDiag returns a Diag that reads from the socket fd, which stays the caller's to
// close, when the Diag is used no more.
func NewDiag(fd int) (*Diag, error) {
	c, err := openDiagConn(fd)
	if err != nil {
		return nil, err
	}
	return &Diag{conn: c}, nil
}

// Listening calls each with every socket; see Source.
func (d *Diag) Listening(each func(Listening)) error {
	for _, q := range []diagQuery{
		{proto: unix.IPPROTO_TCP, states: 1 << stateListen},
		{proto: unix.IPPROTO_UDP, states: 1 << stateClosed},
	} {
		for _, q.family = range []uint8{unix.AF_INET, unix.AF_INET6} {
			if err := d.conn.dump(q, func(s diagSocket) {
				if s.device == 0 && s.local.Port() != 0 {
					each(Listening{Proto: protoName(s.proto), Local: s.local, Both: !s.address().IsValid()})
				}
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
