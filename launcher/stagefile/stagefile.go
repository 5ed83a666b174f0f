// SPDX-License-Identifier: Apache-2.0

package stagefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNone says that there is no stage to be had as a file of its own, and the caller
// must do with its own binary: it was not linked in, or the machine forbids to execute
// memory files (sysctl vm.memfd_noexec).
var ErrNone = errors.New("no init stage linked in")

// seals keep the file as it is for as long as it exists.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Linked reports whether a stage is linked in.
func Linked() bool { return binary != "" }

// Open makes the file, which is closed on exec and the caller's to close. It costs the
// copying of two megabytes. The error is an ErrNone where there is none.
func Open() (*os.File, error) {
	if !Linked() {
		return nil, ErrNone
	}
	f, err := Seal(strings.NewReader(binary))
	if errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("make the init stage: %w", err)
	}
	return f, nil
}

// Seal makes a file of any other binary, as Open does.
func Seal(binary io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate("slipway-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all can be executed
		fd, err = unix.MemfdCreate("slipway-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make a memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "slipway-init")
	if _, err := io.Copy(f, binary); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the memory file: %w", err)
	}
	return f, nil
}
