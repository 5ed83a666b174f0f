// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrTarget is matched, by errors.Is, by every error that says that the target
// is not there, is not a namespace or may not be entered.
var ErrTarget = errors.New("cannot enter the network namespace")

// A Target names a network namespace: by a process in it, or by a path of it.
// The zero Target names none.
type Target struct {
	// PID is the id, in our own pid namespace, of a process in the network
	// namespace. Zero means that NetNS names it.
	PID int
	// NetNS is the path of the namespace: /proc/PID/ns/net or a bind mount of
	// it, as under /run/netns.
	NetNS string
	// UserNS is the path of the user namespace to enter on the way. Empty, it
	// is the one that owns the network namespace, which the kernel knows.
	UserNS string
}

// ParseTarget reads a target as given on a command line: a number is a process
// id, anything with a slash a path of a network namespace.
func ParseTarget(arg string) (Target, error) {
	if strings.Contains(arg, "/") {
		if strings.ContainsRune(arg, 0) {
			return Target{}, fmt.Errorf("target %q: a path has no zero byte", arg)
		}
		return Target{NetNS: arg}, nil
	}
	pid, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || strings.HasPrefix(arg, "+") {
		return Target{}, fmt.Errorf("target %q: want a process id, or the path of a network namespace such as /run/netns/NAME", arg)
	}
	if pid <= 0 {
		return Target{}, fmt.Errorf("target %q: a process id is greater than zero", arg)
	}
	return Target{PID: int(pid)}, nil
}

// String describes the target for messages.
func (t Target) String() string {
	if t.PID != 0 {
		return "process " + strconv.Itoa(t.PID)
	}
	return t.NetNS
}

// process returns the id of the process that names the target, by itself or by the
// path of its directory in /proc; 0 where there is none.
func (t Target) process() int {
	if t.PID != 0 {
		return t.PID
	}
	var pid int
	if n, err := fmt.Sscanf(t.NetNS, "/proc/%d/ns/net", &pid); err != nil || n != 1 || fmt.Sprintf("/proc/%d/ns/net", pid) != t.NetNS {
		return 0
	}
	return pid
}

// pidfd opens the process that a path names. It returns -1 where there is none: the
// path may be of a thread, which only the path tells the end of.
func (t Target) pidfd() int {
	pid := t.process()
	if pid <= 0 {
		return -1
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1
	}
	return fd
}

// namespaces are the open handles of a target during set-up.
type namespaces struct {
	net, user netns.NsHandle
	// join reports that user is another user namespace than ours.
	join bool
	// granted reports that owning user gives us every capability in it.
	granted bool
	// pidfd refers to the process that names the target, or is -1.
	pidfd int
	// file is the identity of the namespace file at Target.NetNS.
	file fileID
}

// close closes all handles. A handle of a network namespace keeps it alive, so
// none may outlive the set-up.
func (n *namespaces) close() {
	for _, h := range []*netns.NsHandle{&n.net, &n.user} {
		if h.IsOpen() {
			h.Close()
		}
	}
	if fd := n.takePidfd(); fd >= 0 {
		unix.Close(fd)
	}
}

// takePidfd returns the pidfd, or -1, which is the caller's from then on.
func (n *namespaces) takePidfd() int {
	fd := n.pidfd
	n.pidfd = -1
	return fd
}

// open opens the target's namespaces.
func (t Target) open() (_ *namespaces, err error) {
	ns := &namespaces{net: netns.None(), user: netns.None(), pidfd: -1}
	defer func() {
		if err != nil {
			ns.close()
			err = fmt.Errorf("%w: %w", ErrTarget, err)
		}
	}()
	switch {
	case t.PID != 0:
		err = ns.openProcess(t.PID)
	case t.NetNS != "":
		ns.pidfd = t.pidfd()
		ns.net, err = openNS(t.NetNS, unix.CLONE_NEWNET)
	default:
		err = errors.New("no target given: want a process id or the path of a network namespace")
	}
	if err != nil {
		return nil, err
	}
	if ns.file, err = statHandle(ns.net); err != nil {
		return nil, err
	}
	if err := ns.openOwner(t); err != nil {
		return nil, err
	}
	return ns, ns.compare(t)
}

// openProcess opens the network namespace of a process. The pidfd, taken first
// and asked last, proves that the id was not reused in between.
func (n *namespaces) openProcess(pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return fmt.Errorf("there is no process %d: has it ended?", pid)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%d is not the id of a process (is it one of a thread?)", pid)
	case err != nil:
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	n.pidfd = fd
	n.net, err = openNS(fmt.Sprintf("/proc/%d/ns/net", pid), unix.CLONE_NEWNET)
	if ended(fd) {
		return fmt.Errorf("process %d has ended", pid)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("process %d belongs to another user, or may not be traced by you: become its user, or root (%w)", pid, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("process %d is not to be seen in /proc: is /proc that of our pid namespace, mounted without hidepid? (%w)", pid, err)
	}
	return err
}

// openOwner opens the user namespace to enter: the one named, or the owner of
// the network namespace (ioctl_ns(2)). It is the owner that has to grant
// CAP_NET_ADMIN, also where the process sits in a deeper user namespace.
func (n *namespaces) openOwner(t Target) (err error) {
	if t.UserNS != "" {
		n.user, err = openNS(t.UserNS, unix.CLONE_NEWUSER)
		return err
	}
	fd, err := unix.IoctlRetInt(int(n.net), unix.NS_GET_USERNS)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("the network namespace of %s belongs to a user namespace outside ours: start from outside of it", t)
	}
	if err != nil {
		return fmt.Errorf("get the user namespace of %s: %w", t, err)
	}
	n.user = netns.NsHandle(fd)
	return nil
}

// compare finds out whether the user namespace has to be joined, and refuses
// our own network namespace, where a default route through ourselves would cut
// off the host.
func (n *namespaces) compare(t Target) error {
	own, err := openNS("/proc/thread-self/ns/user", unix.CLONE_NEWUSER)
	if err != nil {
		return err
	}
	defer own.Close()
	n.join = !own.Equal(n.user)
	if n.join {
		if n.granted, err = owns(own, n.user); err != nil {
			return err
		}
	}
	ownNet, err := openNS("/proc/thread-self/ns/net", unix.CLONE_NEWNET)
	if err != nil {
		return err
	}
	defer ownNet.Close()
	if ownNet.Equal(n.net) {
		return fmt.Errorf("the network namespace of %s is our own: give that of a container", t)
	}
	return nil
}

// owns reports whether our effective user, in the user namespace own, has every
// capability in the user namespace to, which lies below, by having made it or one
// on the way to it (user_namespaces(7), security/commoncap.c, cap_capable).
func owns(own, to netns.NsHandle) (bool, error) {
	at, err := unix.Dup(int(to))
	if err != nil {
		return false, os.NewSyscallError("dup", err)
	}
	for {
		parent, err := unix.IoctlRetInt(at, unix.NS_GET_PARENT)
		if errors.Is(err, unix.EPERM) { // above ours: so ours is not on the way
			unix.Close(at)
			return false, nil
		}
		if err != nil {
			unix.Close(at)
			return false, fmt.Errorf("get the parent of a user namespace: %w", err)
		}
		if own.Equal(netns.NsHandle(parent)) {
			uid, err := unix.IoctlGetUint32(at, unix.NS_GET_OWNER_UID)
			unix.Close(at)
			unix.Close(parent)
			if err != nil {
				return false, fmt.Errorf("get the owner of a user namespace: %w", err)
			}
			return int(uid) == unix.Geteuid(), nil
		}
		unix.Close(at)
		at = parent
	}
}

// openNS opens a namespace file of the kind, a CLONE_NEW* flag. O_NONBLOCK is
// for what is no such file: opening a FIFO would wait.
func openNS(path string, kind int) (netns.NsHandle, error) {
	name := map[int]string{unix.CLONE_NEWNET: "network", unix.CLONE_NEWUSER: "user"}[kind]
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return netns.None(), &os.PathError{Op: "open " + name + " namespace", Path: path, Err: err}
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || int64(st.Type) != unix.NSFS_MAGIC {
		unix.Close(fd)
		return netns.None(), fmt.Errorf("%s is not a %s namespace: want a file such as /proc/PID/ns/%s or a bind mount of one",
			path, name, map[int]string{unix.CLONE_NEWNET: "net", unix.CLONE_NEWUSER: "user"}[kind])
	}
	got, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || got != kind {
		unix.Close(fd)
		return netns.None(), fmt.Errorf("%s is a namespace, but not a %s namespace", path, name)
	}
	return netns.NsHandle(fd), nil
}
