// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// selfExe is this process's binary.
const selfExe = "/proc/self/exe"

// exposed reports whether a container's root could change this binary, given a
// descriptor of it: unless it is real root's and closed to the caller. An owner may
// chmod(2) what is not writable yet.
func exposed() bool {
	var st unix.Stat_t
	return unix.Stat(selfExe, &st) != nil || st.Uid != 0 || unix.Access(selfExe, unix.W_OK) == nil
}

// openBinary opens this binary, to be executed where the container sees its process:
// a command that is a link to /proc/self/exe, or has it as its interpreter, hands the
// container the very file (CVE-2019-5736). Of one that is exposed it is a copy in
// memory that nobody can change. The caller closes the descriptor.
func openBinary() (int, error) {
	if exposed() {
		return copyBinary()
	}
	fd, err := unix.Open(selfExe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open our own binary: %w", err)
	}
	return fd, nil
}

// copyBinary copies this binary into memory and seals it.
func copyBinary() (_ int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep our own binary from the container: copy it: %w; to mend it: let root own it", err)
		}
	}()
	self, err := os.Open(selfExe)
	if err != nil {
		return -1, err
	}
	defer self.Close()
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("slipway", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3, where each may be executed
		fd, err = unix.MemfdCreate("slipway", flags)
	}
	if err != nil {
		return -1, err
	}
	if err := fill(fd, self); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// fill copies the whole of a file into a memfd, which cannot be changed from then on.
func fill(memfd int, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	for left := info.Size(); left > 0; {
		n, err := unix.Sendfile(memfd, int(from.Fd()), nil, int(left))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return errors.New("it was cut off meanwhile")
		}
		left -= int64(n)
	}
	_, err = unix.FcntlInt(uintptr(memfd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return err
}
