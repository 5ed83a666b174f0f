// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tcpEstablished is the state of an open connection in /proc/net/tcp (the kernel's
// include/net/tcp_states.h).
const tcpEstablished = 1

// A socket is a line of /proc/net/tcp or its like.
type socket struct {
	Local, Remote netip.AddrPort
	State         int
	Inode         uint64 // 0 where no process has it any more
}

// hostSockets returns the calling thread's network namespace's sockets of a
// protocol, of both families.
func hostSockets(proto string) ([]socket, error) {
	var all []socket
	for _, file := range []string{proto, proto + "6"} {
		b, err := os.ReadFile(filepath.Join("/proc/thread-self/net", file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		some, err := parseSockets(string(b))
		if err != nil {
			return nil, fmt.Errorf("list sockets: %s: %w", file, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// parseSockets reads a file such as /proc/net/tcp (proc_net_tcp(5)).
func parseSockets(text string) ([]socket, error) {
	const local, remote, state, inode = 1, 2, 3, 9 // fields
	var all []socket
	first := true
	for l := range strings.Lines(text) {
		f := strings.Fields(l)
		if first { // the titles
			first = false
			continue
		}
		if len(f) <= inode {
			return nil, fmt.Errorf("malformed line %q", l)
		}
		var (
			s    socket
			errs [4]error
			n    uint64
		)
		s.Local, errs[0] = parseHexAddr(f[local])
		s.Remote, errs[1] = parseHexAddr(f[remote])
		n, errs[2] = strconv.ParseUint(f[state], 16, 8)
		s.State = int(n)
		s.Inode, errs[3] = strconv.ParseUint(f[inode], 10, 64)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("malformed line %q: %w", l, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// parseHexAddr reads an address of /proc/net/tcp: 32-bit words as the machine has
// them in memory, printed as numbers. An IPv4 address that is mapped is IPv4.
func parseHexAddr(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(b)%4 == 0 {
		for i := 0; i < len(b); i += 4 {
			binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
		}
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q has %d bytes", s, len(b))
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(p)), nil
}

// carries reports whether the socket is an end of the flow. A UDP socket need not be
// bound to an address nor connected.
func (s socket) carries(f flow) bool {
	if s.Inode == 0 {
		return false
	}
	if f.Proto == "tcp" {
		return s.State == tcpEstablished && s.Local == f.Local && s.Remote == f.Remote
	}
	same := func(a, b netip.AddrPort) bool {
		return a.Port() == b.Port() && (a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
	}
	return same(s.Local, f.Local) && (s.Remote.Port() == 0 || same(s.Remote, f.Remote))
}

// owner returns which of the processes has the socket, 0 for none. It fails where
// none has it among those that can be looked into.
func (s socket) owner(pids []int) (int, error) {
	var errs []error
	for _, pid := range pids {
		has, err := hasSocket(pid, s.Inode)
		if has {
			return pid, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return 0, errors.Join(errs...)
}

// hasSocket reports whether the process has the socket.
func hasSocket(pid int, inode uint64) (bool, error) {
	want := fmt.Sprintf("socket:[%d]", inode)
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		return hasHidden(pid, inode)
	}
	if err != nil {
		return false, fmt.Errorf("list open files: %w", err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && to == want {
			return true, nil
		}
	}
	return false, nil
}

// hiddenDescriptors is how many descriptors of a process that hides them are looked
// at.
const hiddenDescriptors = 1 << 13

// hasHidden is hasSocket for a process that is not dumpable, as pasta makes itself,
// whose /proc/PID/fd belongs to root (proc(5)). CAP_SYS_PTRACE does not open that
// directory, but lets one descriptor after the other be taken (pidfd_getfd(2)).
func hasHidden(pid int, inode uint64) (bool, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, fmt.Errorf("look into process %d: %w", pid, err)
	}
	defer unix.Close(process)
	for n := range hiddenDescriptors {
		fd, err := unix.PidfdGetfd(process, n, 0)
		if err == unix.EBADF {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("look into process %d: %w", pid, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		if err == nil && st.Ino == inode && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return true, nil
		}
	}
	return false, nil
}
