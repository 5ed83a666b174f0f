// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// firstFile is where, in the stage, the descriptors lie that its command is to have from
// ControlFD on.
const firstFile = ControlFD + 1

// placeFiles puts the command's descriptors where the command is to find them, and the
// control out of their way.
func placeFiles(p *Process, ctl *Control) error {
	if p.Files == 0 {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(ctl.fd), unix.F_DUPFD_CLOEXEC, firstFile+int(p.Files))
	if err != nil {
		return fmt.Errorf("move the control socket: %w", err)
	}
	ctl.fd = fd
	for i := range int(p.Files) {
		if err := unix.Dup3(firstFile+i, ControlFD+i, 0); err != nil {
			return fmt.Errorf("give the command descriptor %d: %w", ControlFD+i, err)
		}
	}
	return unix.Close(ControlFD + int(p.Files))
}

// files are the command's descriptors in a stage that has not placed them.
func (p *Process) files() []uintptr {
	var fds []uintptr
	for i := range int(p.Files) {
		fds = append(fds, uintptr(firstFile+i))
	}
	return fds
}
