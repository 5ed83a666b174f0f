// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Residents finds the processes of one network namespace. The zero residents finds
// none.
//
// Which namespace a process is in shows in the identity of its /proc/PID/net/dev: the
// kernel makes that file anew for each network namespace (net/core/net-procfs.c), and
// lets everybody look at it. /proc/PID/ns/net, made for the purpose, may be looked at
// only by who may trace the process, which nobody may who is under Landlock.
type residents struct {
	proc *os.File // /proc; nil finds none
	file fileID   // of /proc/PID/net/dev in the namespace
}

// netFile is the path, below a process' directory in /proc, of the file that tells its
// namespace.
const netFile = "net/dev"

// openResidents takes the identity from the descriptor of such a file. Without one,
// or without /proc, none will be found.
func openResidents(fd int) residents {
	var st unix.Stat_t
	if fd < 0 || unix.Fstat(fd, &st) != nil {
		return residents{}
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return residents{}
	}
	return residents{proc: proc, file: fileID{dev: st.Dev, ino: st.Ino}}
}

// close closes /proc: from then on none is found.
func (r *residents) close() {
	if r.proc != nil {
		r.proc.Close()
		r.proc = nil
	}
}

// any returns one of them, with its pidfd, or nil where there is none. The caller
// closes the pidfd.
func (r *residents) any() (*os.File, int) {
	if r.proc == nil {
		return nil, 0
	}
	if _, err := r.proc.Seek(0, io.SeekStart); err != nil {
		return nil, 0
	}
	names, _ := r.proc.Readdirnames(-1) // what could be read is looked at
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !r.has(pid) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			continue
		}
		// Asked again: the id may have been reused before the pidfd was open.
		if !r.has(pid) || ended(fd) {
			unix.Close(fd)
			continue
		}
		return os.NewFile(uintptr(fd), "pidfd"), pid
	}
	return nil, 0
}

func (r *residents) has(pid int) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(r.proc.Fd()), fmt.Sprintf("%d/%s", pid, netFile), &st, 0)
	return err == nil && fileID{dev: st.Dev, ino: st.Ino} == r.file
}
