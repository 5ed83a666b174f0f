// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/portfwd/client"
)

const (
	portSynopsis = "port CONTAINER [PORT[/PROTO]]"
	portAbout    = `Prints where the host publishes the ports of CONTAINER, or its PORT alone. To
publish more of them, see slipway ports.`
)

// runPort is `slipway port`.
func runPort(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("port")
	if code, over := parseFlags(fs, args, portSynopsis, portAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, portSynopsis, 1, 2); err != nil {
		return report(stderr, err)
	}
	return report(stderr, printPorts(fs.Arg(0), fs.Arg(1), stdout))
}

// printPorts prints the container's ports, or those of the port wanted.
func printPorts(word, wanted string, stdout io.Writer) error {
	store, c, err := findContainer(word)
	if err != nil {
		return err
	}
	if c.Status != state.Running {
		return errNotRunning(c)
	}
	if err := errOfPlugins(c); err != nil {
		return err
	}
	socket, done, err := socketPath(filepath.Join(store.Dir(c.ID), apiFile))
	if err != nil {
		return err
	}
	defer done()
	ports, err := client.Dial(socket).Ports(context.Background())
	if err != nil {
		return fmt.Errorf("container %s (network %s): %w", c.DisplayName(), c.Net, err)
	}
	if wanted != "" && !strings.Contains(wanted, "/") {
		wanted += "/tcp"
	}
	found := false
	for _, p := range ports {
		// The container's end is ADDR:PORT, or :PORT for the plan's address.
		inside := p.Container[strings.LastIndexByte(p.Container, ':')+1:] + "/" + p.Proto
		host := p.Host
		if strings.HasPrefix(host, ":") {
			host = "0.0.0.0" + host
		}
		switch wanted {
		case "":
			fmt.Fprintf(stdout, "%s -> %s\n", inside, host)
		case inside:
			fmt.Fprintln(stdout, host)
		default:
			continue
		}
		found = true
	}
	if wanted != "" && !found {
		return fmt.Errorf("container %s: port %s is not published", c.DisplayName(), wanted)
	}
	return nil
}
