// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/portfwd/client"
	"github.com/spf13/pflag"
)

const (
	flowsSynopsis = "flows [flags] CONTAINER|SOCKET"
	flowsAbout    = "Lists the flows of CONTAINER, or of the `slipway attach` whose --api is SOCKET, oldest\nfirst."
	pcapSynopsis  = "pcap [flags] CONTAINER|SOCKET [FILE]"
	pcapAbout     = "Captures the frames of CONTAINER, or of the `slipway attach` whose --api is SOCKET, to\nFILE, or to standard output if FILE is -, until it is interrupted, or ended by --stop.\nThere is one capture at a time."
)

// runFlows is `slipway flows`.
func runFlows(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("flows")
	asJSON := fs.Bool("json", false, "print JSON")
	counters := fs.Bool("counters", false, "print the counters instead")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			usage(stdout, fs, flowsSynopsis, flowsAbout)
			return exitOK
		}
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	if fs.NArg() != 1 {
		return report(stderr, fmt.Errorf("%w: want one SOCKET, as in: slipway %s", errUsage, flowsSynopsis))
	}
	what, show := "flows", showFlows
	if *counters {
		what, show = "counters", showCounters
	}
	socket, err := apiSocket(fs.Arg(0))
	if err != nil {
		return report(stderr, err)
	}
	body, err := client.Dial(socket).Get(context.Background(), what)
	if err != nil {
		return report(stderr, err)
	}
	defer body.Close()
	if *asJSON {
		_, err = io.Copy(stdout, body)
	} else {
		err = show(stdout, body)
	}
	return report(stderr, err)
}

func showFlows(w io.Writer, body io.Reader) error {
	var flows []netstack.FlowInfo
	if err := json.NewDecoder(body).Decode(&flows); err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tPROTO\tPATH\tSTATE\tCONTAINER\tREMOTE\tUP\tDOWN\tAGE\tIDLE\tRTT")
	for _, f := range flows {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", f.ID, f.Proto, f.Path, f.State,
			f.Container, remote(f), f.BytesUp, f.BytesDown,
			f.Age.Round(time.Millisecond), f.Idle.Round(time.Millisecond), f.RTT)
	}
	return t.Flush()
}

// remote says where a flow goes, as --host-socket says it of a socket of the host.
func remote(f netstack.FlowInfo) string {
	if f.HostSocket != "" {
		return f.Remote.String() + "=" + f.HostSocket
	}
	return f.Remote.String()
}

func showCounters(w io.Writer, body io.Reader) error {
	var counters []netstack.Counter
	if err := json.NewDecoder(body).Decode(&counters); err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range counters {
		fmt.Fprintf(t, "%s\t%d\n", c.Name, c.Value)
	}
	return t.Flush()
}

// runPcap is `slipway pcap`.
func runPcap(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("pcap")
	end := fs.Bool("stop", false, "end the capture that another slipway pcap makes; without FILE")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			usage(stdout, fs, pcapSynopsis, pcapAbout)
			return exitOK
		}
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	switch {
	case *end && fs.NArg() != 1:
		return report(stderr, fmt.Errorf("%w: want CONTAINER or SOCKET with --stop, and no FILE", errUsage))
	case !*end && fs.NArg() != 2:
		return report(stderr, fmt.Errorf("%w: want CONTAINER or SOCKET, and FILE, as in: slipway %s", errUsage, pcapSynopsis))
	}
	socket, err := apiSocket(fs.Arg(0))
	if err != nil {
		return report(stderr, err)
	}
	if *end {
		return report(stderr, client.Dial(socket).StopCapture(context.Background()))
	}
	return report(stderr, capture(socket, fs.Arg(1), stdout))
}

// capture copies the capture of the session behind socket to the file.
func capture(socket, file string, stdout io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	body, err := client.Dial(socket).Get(ctx, "pcap")
	if err != nil {
		return err
	}
	defer body.Close()
	w := stdout
	if file != "-" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("capture frames: %w", err)
		}
		defer f.Close()
		w = f
	}
	if _, err = io.Copy(w, body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("capture frames: %w", err)
	}
	return nil
}
