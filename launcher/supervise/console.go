// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"net"
)

// A Console is a connection by which input and the size of the terminal go to a
// container. Its output is in the log. Its methods are for one goroutine, but for
// Close.
type Console struct {
	conn *net.UnixConn
	// TTY says that the container has a terminal, and Input that its command has an
	// input that can be written to.
	TTY, Input bool
}

// Console opens a console, which the caller closes.
func (c *Client) Console(ctx context.Context) (*Console, error) {
	conn, a, err := c.dial(ctx, request{Op: opOpen})
	if err != nil {
		return nil, fmt.Errorf("open a console: %w", err)
	}
	return &Console{conn: conn, TTY: a.TTY, Input: a.Input}, nil
}

// Write implements io.Writer: it writes b to the command's input, and waits until
// there is room for it.
func (c *Console) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n := min(len(b)-done, maxInput)
		if err := writePacket(c.conn, request{Op: opInput, Data: b[done : done+n]}); err != nil {
			return done, fmt.Errorf("write to the container: %w", err)
		}
		done += n
	}
	return len(b), nil
}

// Resize gives the container's terminal a size in characters.
func (c *Console) Resize(rows, columns uint16) error {
	if err := writePacket(c.conn, request{Op: opResize, Rows: rows, Columns: columns}); err != nil {
		return fmt.Errorf("resize the container's terminal: %w", err)
	}
	return nil
}

// Close closes the connection; the container goes on.
func (c *Console) Close() error { return c.conn.Close() }
