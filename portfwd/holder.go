// SPDX-License-Identifier: Apache-2.0

package portfwd

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many descriptors of other processes are looked at to find who has
// a socket. A desktop has some ten thousand; each costs about a µs.
const maxLinks = 1 << 16

// holder returns who has the port of a rule, as the end of a sentence, which is empty where
// that cannot be found out. The socket is 0 unless it is the user's own and this process
// may not see whose: it is for Holder to be asked of by somebody who may.
func holder(r Rule) (who string, socket uint32) {
	s, ok := rival(r)
	if !ok {
		return "", 0
	}
	return s.holder(r.Host)
}

// holder returns who has the socket, for a rule at the address host.
func (s diagSocket) holder(host netip.Addr) (who string, socket uint32) {
	at := " at " + s.local.Addr().String()
	if s.local.Addr() == host {
		at = ""
	}
	if who := Holder(s.inode); who != "" {
		return at + ": by " + who + ": stop it, or choose another port", 0
	}
	if s.uid != uint32(os.Getuid()) {
		return fmt.Sprintf("%s: by another user's process (uid %d): stop it, or choose another port", at, s.uid), 0
	}
	return at + ": by a process that cannot be seen from here: choose another port", s.inode
}

// HiddenSocket returns the inode of the socket that has the port which err says is in use,
// where this process may not see whose it is, as it may not in its sandbox. It is 0 for all
// other errors.
func HiddenSocket(err error) uint32 {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.socket
	}
	return 0
}

// Holder names a process that has the socket of that inode (proc_pid_fd(5)) open, such as
// "process 7 (nginx)"; it is empty where none can be seen.
func Holder(socket uint32) string {
	pid, ok := owner(socket)
	if !ok {
		return ""
	}
	who := fmt.Sprintf("process %d", pid)
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
		who += " (" + printable(strings.TrimSpace(string(name))) + ")"
	}
	if pid == os.Getpid() {
		who += ", which is this one"
	}
	return who
}

// rival returns the socket of the host that keeps a rule's port.
func rival(r Rule) (found diagSocket, ok bool) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return diagSocket{}, false
	}
	defer closeSocket(fd)
	c, err := openDiagConn(fd)
	if err != nil {
		return diagSocket{}, false
	}
	q := diagQuery{proto: unix.IPPROTO_TCP, states: 1<<stateListen | 1<<stateBoundInactive, port: r.HostPort}
	if r.Proto == UDP {
		q.proto, q.states = unix.IPPROTO_UDP, 1<<stateEstablished|1<<stateClosed
	}
	for _, q.family = range []uint8{unix.AF_INET, unix.AF_INET6} {
		// An error means that nothing is found out: the port is in use anyway.
		_ = c.dump(q, func(s diagSocket) {
			if !ok && s.local.Port() == r.HostPort && overlap(r.Host, s.address()) {
				found, ok = s, true
			}
		})
	}
	return found, ok
}

// address returns where the socket is, as Rule.Host has it.
func (s diagSocket) address() netip.Addr {
	if s.v6 && !s.v6Only && s.local.Addr() == netip.IPv6Unspecified() {
		return netip.Addr{}
	}
	return s.local.Addr()
}

// owner finds a process that has the socket open.
func owner(inode uint32) (pid int, ok bool) {
	if inode == 0 {
		return 0, false
	}
	want := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	links := 0
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := filepath.Join("/proc", p.Name(), "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue // another user's, or gone
		}
		for _, fd := range fds {
			if links++; links > maxLinks {
				return 0, false
			}
			if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && to == want {
				return pid, true
			}
		}
	}
	return 0, false
}
