// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// A Copier carries files between a container, in whose root and with whose rights it is
// called, and the standard streams: out of it or into it, at a path.
type Copier func(out bool, path string) error

// What a stage in ModeCopy or ModeStill is to do: the first of two words in Process.Args, of which
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
	return 0, copyAs(&o.Process, copier)
}

// stillMain makes a container of which nothing runs, and has copier carry files into or
// out of it. Its mounts are those of this process, and end with it.
func stillMain(ctl *Control, copier Copier) (int, error) {
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	if err := makeContainer(o, ctl); err != nil {
		return 0, err
	}
	if err := closeFleeting(o); err != nil {
		return 0, err
	}
	return 0, copyAs(&o.Process, copier)
}

// closeFleeting makes read-only what is mounted and is no volume: what is written there
// would be lost with this process, and nobody be told.
func closeFleeting(o *Order) error {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the container's root: %w", err)
	}
	defer unix.Close(root)
	mt := newMounter(o.Legacy)
	kept := map[string]bool{} // what a later mount may have covered
	for _, m := range slices.Backward(o.Mounts) {
		spec := parseMount(m.Type, m.Source, m.Options)
		at := path.Clean(m.Destination)
		if kept[at] = kept[at] || spec.bind; kept[at] {
			continue
		}
		if err := mt.remountReadonly(place{root: root, path: at, links: spec.volume}); err != nil {
			return fmt.Errorf("make %s read-only: %w", m.Destination, err)
		}
	}
	return nil
}

// copyAs has copier do what the words of p say, with the rights of p.
func copyAs(p *Process, copier Copier) error {
	if len(p.Args) != 2 || copier == nil {
		return errors.New("the order to copy is for another binary, or has no path")
	}
	id, err := lookUp(p)
	if err != nil {
		return err
	}
	if err := confine(p, id); err != nil {
		return err
	}
	return copier(p.Args[0] == CopyOut, p.Args[1])
}
