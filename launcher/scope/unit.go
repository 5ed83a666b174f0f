// SPDX-License-Identifier: Apache-2.0

package scope

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// Timeout is how long the manager may take, all in all. It takes milliseconds; one that
// hangs must not stop who is better off without a scope than late.
const Timeout = 2 * time.Second

// closeGrace is how long after its context's end a connection is cut off that was not
// closed by then, since a call is stuck in it.
const closeGrace = 100 * time.Millisecond

// A Unit is a scope that is to be. Name and PIDs are needed.
type Unit struct {
	Name        string // of letters, digits and -, without the suffix .scope
	Description string
	PIDs        []int // processes of the caller's to move there
	// Delegate leaves the group to the caller: it may make groups below, and limit
	// them.
	Delegate bool
}

// jobDone is what a job is called that has done what it was for.
const jobDone = "done"

// Start has the manager make the unit, and returns when the processes are in it. The
// error matches ErrForeign, or context.DeadlineExceeded where the manager did not answer
// within Timeout.
func (m Manager) Start(ctx context.Context, u Unit) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	err := m.start(ctx, u)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // what the closed connection says is not what has happened
		return fmt.Errorf("have systemd make %s.scope: %w: %v", u.Name, ctx.Err(), err)
	}
	return fmt.Errorf("have systemd make %s.scope: %w", u.Name, err)
}

func (m Manager) start(ctx context.Context, u Unit) error {
	c, err := dbus.NewConnection(func() (*godbus.Conn, error) { return m.dial(ctx) })
	if err != nil {
		return err
	}
	defer c.Close()
	done := make(chan string, 1)
	if _, err := c.StartTransientUnitContext(ctx, u.Name+".scope", "fail", u.properties(), done); err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != jobDone {
			return fmt.Errorf("its job ended as %q", result)
		}
		return nil
	case <-ctx.Done():
		return errors.New("its job does not end")
	}
}

// properties are the unit's, in the words of org.freedesktop.systemd1(5).
func (u Unit) properties() []dbus.Property {
	pids := make([]uint32, len(u.PIDs))
	for i, pid := range u.PIDs {
		pids[i] = uint32(pid)
	}
	p := []dbus.Property{
		dbus.PropDescription(u.Description),
		dbus.PropPids(pids...),
		// One that has failed is not kept for somebody to look at.
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}
	if u.Delegate {
		p = append(p, dbus.Property{Name: "Delegate", Value: godbus.MakeVariant(true)})
	}
	return p
}

// dial connects to the manager's socket and authenticates there. There is no bus, and
// so no Hello. The connection ends with ctx.
func (m Manager) dial(ctx context.Context) (*godbus.Conn, error) {
	sock, err := new(net.Dialer).DialContext(ctx, "unix", m.Socket)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(sock.(*net.UnixConn)); err != nil {
		sock.Close()
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := sock.SetDeadline(end.Add(closeGrace)); err != nil {
			sock.Close()
			return nil, err
		}
	}
	c, err := godbus.NewConn(sock, godbus.WithContext(ctx))
	if err != nil {
		sock.Close()
		return nil, err
	}
	if err := c.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(m.UID))}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
