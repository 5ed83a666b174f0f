// SPDX-License-Identifier: Apache-2.0

package stagefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// Name is that of the stage as a file beside slipway's own, where `make install` puts it.
const Name = "slipway-init"

// headSize is how many bytes two stages are told apart by: the ELF header, and the build
// id, by which Go tells one build from all others (.note.go.buildid).
const headSize = 4096

// Open opens the stage, which is closed on exec and the caller's to close: the file beside
// our own binary if nobody but real root can change that, else a memory file. To make that
// costs the copying of two megabytes. The error is an ErrNone where there is none.
func Open() (*os.File, error) {
	if !Linked() {
		return nil, ErrNone
	}
	if f := installed(); f != nil {
		return f, nil
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

// installed opens the file beside our own binary, nil where there is none that will do.
func installed() *os.File {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	fd, err := unix.Open(filepath.Join(filepath.Dir(self), Name), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), Name)
	if !trusted(fd, binary) {
		f.Close()
		return nil
	}
	return f
}

// trusted reports whether an open file is the stage, and one that nobody but real root can
// change: neither we nor, as we, a container's root.
func trusted(fd int, stage string) bool {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || st.Size != int64(len(stage)) {
		return false
	}
	may := func(do uint32) bool {
		return unix.Faccessat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), do, unix.AT_EACCESS) == nil
	}
	// An owner may chmod(2) what is not writable yet. A copy may lack the right to be
	// executed, which is no reason for a container not to start.
	if os.Geteuid() == 0 || may(unix.W_OK) || !may(unix.X_OK) {
		return false
	}
	head := make([]byte, min(headSize, len(stage)))
	n, err := unix.Pread(fd, head, 0)
	return err == nil && string(head[:n]) == stage[:len(head)]
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
