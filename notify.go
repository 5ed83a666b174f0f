// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
)

// sendDatagram sends text to the Unix socket at addr; a leading "@" is one of the
// abstract kind (unix(7)).
func sendDatagram(addr, text string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
