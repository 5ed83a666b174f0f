// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Client talks to a supervisor. Each call is a connection of its own, so that it
// holds nothing; it may be used concurrently.
type Client struct{ dir string }

// NewClient returns a client of the supervisor whose container has its directory
// at dir.
func NewClient(dir string) *Client { return &Client{dir} }

// Signal sends the container's command a signal.
func (c *Client) Signal(ctx context.Context, sig unix.Signal) error {
	if err := c.ask(ctx, request{Op: opSignal, Signal: int(sig)}); err != nil {
		return fmt.Errorf("send %s: %w", unix.SignalName(sig), err)
	}
	return nil
}

// Kill ends the container at once.
func (c *Client) Kill(ctx context.Context) error {
	if err := c.ask(ctx, request{Op: opKill}); err != nil {
		return fmt.Errorf("kill the container: %w", err)
	}
	return nil
}

// ask makes one request.
func (c *Client) ask(ctx context.Context, q request) error {
	conn, _, err := c.dial(ctx, q)
	if err != nil {
		return err
	}
	return conn.Close()
}

// dial connects, makes the request and reads the answer.
func (c *Client) dial(ctx context.Context, q request) (conn *net.UnixConn, a answer, err error) {
	err = inDir(c.dir, func(short string) error {
		nc, err := new(net.Dialer).DialContext(ctx, "unixpacket", filepath.Join(short, ControlFile))
		if err != nil {
			return err
		}
		conn = nc.(*net.UnixConn)
		return nil
	})
	if err != nil {
		return nil, a, fmt.Errorf("reach the container's supervisor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// Before the command runs a request waits for it.
	if err = writePacket(conn, &q); err == nil {
		err = readPacket(conn, &a)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		err = fmt.Errorf("the container's supervisor has just ended, or has %d clients already", maxClients)
	case err != nil:
		err = fmt.Errorf("hear from the container's supervisor: %w", err)
	case a.Error != "":
		err = errors.New(a.Error)
	}
	if err != nil {
		conn.Close()
		return nil, a, err
	}
	return conn, a, nil
}
