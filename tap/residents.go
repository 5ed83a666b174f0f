// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// resident returns a process, with its pidfd, that is in the network namespace
// ns, or nil where there is none. The caller closes the pidfd.
//
// Whose /proc/PID/ns/net we may look at are processes of our own, and, since its
// owner has every capability in a user namespace, all in namespaces that our user
// made, whatever their user ids are (user_namespaces(7), "Capabilities"): those
// that a rootless container consists of.
func resident(ns fileID) (*os.File, int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, 0
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // what could be read is looked at
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !inNamespace(pid, ns) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			continue
		}
		// Asked again: the id may have been reused before the pidfd was open.
		if !inNamespace(pid, ns) || ended(fd) {
			unix.Close(fd)
			continue
		}
		return os.NewFile(uintptr(fd), "pidfd"), pid
	}
	return nil, 0
}

func inNamespace(pid int, ns fileID) bool {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st)
	return err == nil && fileID{dev: st.Dev, ino: st.Ino} == ns
}
