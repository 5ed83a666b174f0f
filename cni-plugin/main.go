// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

// pluginVersion is set by the linker for a release.
var pluginVersion = ""

// lowestFD is the first descriptor that nobody gives a plugin on purpose.
const lowestFD = 3

func main() {
	// Runtimes leak descriptors into plugins. What we start must not have them.
	_ = unix.CloseRange(lowestFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) // since Linux 5.11; helpers close what they get
	// Where nobody reads the result, writing it is to fail, and what was made to go.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	if len(os.Args) > 1 && os.Args[1] == brokerWord && os.Getenv("CNI_COMMAND") == "" {
		os.Exit(runBroker(ctx, os.Args[2:], os.Stderr))
	}
	err := run(ctx)
	stop()
	if err != nil {
		if perr := err.Print(); perr != nil {
			fmt.Fprintf(os.Stderr, "slipway-cni: print the error %v: %v\n", err, perr)
		}
		os.Exit(1)
	}
}

// run runs the command that the environment names.
func run(ctx context.Context) *types.Error {
	command := func(f func(context.Context, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error { return asError(f(ctx, args)) }
	}
	return skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add:    command(add),
		Del:    command(del),
		Check:  command(check),
		GC:     command(gc),
		Status: command(status),
	}, version.PluginSupports("0.4.0", "1.0.0", "1.1.0"), about())
}

func about() string {
	v := pluginVersion
	if info, ok := debug.ReadBuildInfo(); v == "" && ok {
		v = info.Main.Version
	}
	return "CNI plugin slipway-cni " + v
}

// asError returns err as an error of the specification.
func asError(err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*types.Error](err)
	if !ok {
		e = types.NewError(codeOf(err), err.Error(), "")
	}
	e.Msg, e.Details = shorten(e.Msg), shorten(e.Details)
	return e
}

// maxText bounds what is told of an error (bytes): it may repeat what a megabyte of a
// configuration says.
const maxText = 4 << 10

func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
