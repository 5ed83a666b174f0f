// SPDX-License-Identifier: Apache-2.0

// Command initstage is a container's init stage as a binary of its own, without the
// network stack and all else that slipway is linked with: a tenth of the size and of
// what its packages do before main. `make` builds it and links it into slipway, which
// starts it from a sealed memory file (package stagefile). A slipway that was built
// without it, as by `go install`, starts itself in its place, which does the same and
// takes some milliseconds longer.
//
// It has no command line for people: argv[0] and argv[1] are those that package sandbox
// gives its stages.
package main

import (
	"fmt"
	"os"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

func main() {
	if !sandbox.IsInit(os.Args) {
		fmt.Fprintln(os.Stderr, "initstage: slipway starts this program: see slipway run --help")
		os.Exit(sandbox.ExitOurs)
	}
	os.Exit(sandbox.Init(os.Args, nil))
}
