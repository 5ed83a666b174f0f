// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/slipway-net/slipway/tap/seqpacket"
)

// ControlFile is the name of the control socket in the container's directory.
const ControlFile = "ctl"

// maxPacket bounds a packet in bytes; input is cut into pieces that fit.
const maxPacket = 64 << 10

// maxInput is how many bytes of input go into one packet, as base64 with room for
// the rest.
const maxInput = 32 << 10

// An op says what a request asks for.
type op string

const (
	opSignal op = "signal" // send Signal to the command
	opKill   op = "kill"   // end the container at once
	opInput  op = "input"  // write Data to the command's input; not answered
	opResize op = "resize" // give the terminal a size; not answered
	opOpen   op = "open"   // begin a console: opInput and opResize follow
)

// A request is a packet of a client.
type request struct {
	Op      op     `json:"op"`
	Signal  int    `json:"signal,omitempty"`
	Rows    uint16 `json:"rows,omitempty"`
	Columns uint16 `json:"columns,omitempty"`
	Data    []byte `json:"data,omitempty"`
}

// An answer is a packet to a client: what went wrong, if anything.
type answer struct {
	Error string `json:"error,omitempty"`
	// TTY and Input say, to opOpen, what the container has.
	TTY   bool `json:"tty,omitempty"`
	Input bool `json:"input,omitempty"`
}

// readPacket reads one packet into v. An empty one is the end of the connection.
func readPacket(c *net.UnixConn, v any) error {
	b := make([]byte, maxPacket)
	n, _, _, err := seqpacket.Receive(c, b, nil)
	if errors.Is(err, io.EOF) {
		return net.ErrClosed
	}
	if err != nil {
		return err
	}
	return decodePacket(b[:n], v)
}

func decodePacket(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read a packet: %w", err)
	}
	return nil
}

// writePacket writes v as one packet.
func writePacket(c *net.UnixConn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write a packet: %w", err)
	}
	if len(b) > maxPacket {
		return errors.New("write a packet: it is too long")
	}
	_, err = c.Write(b)
	return err
}
