// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A Copier carries files between a container, in whose root and with whose rights it is
// called, and the standard streams: out of it or into it, at a path.
type Copier func(out bool, path string) error

// What a stage in ModeCopy is to do: the first of two words in Process.Args, of which
// the other is a path in the container.
const (
	CopyOut = "out" // write what is at the path to standard output, as a tar archive
	CopyIn  = "in"  // unpack the tar archive of standard input at the path
)

// copyMain has copier carry files into or out of a container that is there, with the
// rights that its root has.
func copyMain(ctl *Control, copier Copier) (int, error) {
	// This process has more rights than the container until it is confined, and its
	// other threads keep them.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("make the init stage untraceable: %w", err)
	}
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	p := &o.Process
	if len(p.Args) != 2 || copier == nil {
		return 0, errors.New("the order to copy is for another binary, or has no path")
	}
	id, err := lookUp(p)
	if err != nil {
		return 0, err
	}
	if err := confine(p, id); err != nil {
		return 0, err
	}
	return 0, copier(p.Args[0] == CopyOut, p.Args[1])
}
