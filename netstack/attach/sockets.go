// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// checkSockets refuses to start where what is to be a socket of the host is
// something else, or cannot be looked at. One that is missing may come later: its
// service starts, or starts again.
func checkSockets(cfg Config) error {
	for _, k := range cfg.HostSockets {
		info, err := os.Stat(k.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			cfg.Log.Warn("the host has no such socket now; connections to it are refused", "socket", k.Path, "port", k.Port)
		case err != nil:
			return fmt.Errorf("map port %d to a host socket: %w", k.Port, err)
		case info.Mode().Type() != fs.ModeSocket:
			return fmt.Errorf("map port %d to a host socket: %s is no socket: name the one that the service listens on", k.Port, k.Path)
		}
	}
	return nil
}
