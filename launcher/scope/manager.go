// SPDX-License-Identifier: Apache-2.0

package scope

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// ErrForeign is matched, by errors.Is, by the error which says that the manager is not
// one to be asked: another user's, or in another pid namespace.
var ErrForeign = errors.New("the systemd there is not ours")

// systemSocket is the system manager's, and userSocket a user manager's below the
// user's runtime directory.
const (
	systemSocket = "/run/systemd/private"
	userSocket   = "systemd/private"
)

// wholeCount is how many ids the user namespace has that the machine started with
// (user_namespaces(7)).
const wholeCount = 1<<32 - 1

// A Manager is a running systemd, by its private socket. The zero value is of no use;
// see Own.
type Manager struct {
	Socket string // path
	// UID is who we are outside of our user namespace, which is who we are to the
	// manager.
	UID int
}

// Own returns the manager that the caller's processes belong to, or false where there
// is none. Env looks up a variable, as os.Getenv does.
func Own(env func(string) string) (Manager, bool) {
	uid, whole := outside()
	paths := []string{systemSocket}
	if uid != 0 || !whole {
		paths = []string{fmt.Sprintf("/run/user/%d/%s", uid, userSocket)}
		if dir := env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
			paths = append([]string{filepath.Join(dir, userSocket)}, paths...)
		}
	}
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return Manager{Socket: path, UID: uid}, true
		}
	}
	return Manager{}, false
}

// outside returns who we are in the parent of our user namespace, and whether ours is
// all of the machine.
func outside() (uid int, whole bool) {
	uid = os.Geteuid()
	maps, err := user.ParseIDMapFile("/proc/self/uid_map")
	if err != nil {
		return uid, true // without user namespaces there is one
	}
	for _, m := range maps {
		if id := int64(uid); id >= m.ID && id < m.ID+m.Count {
			return int(id - m.ID + m.ParentID), m.ID == m.ParentID && m.Count == wholeCount
		}
	}
	return uid, false
}

// checkPeer makes sure who is behind the socket.
func checkPeer(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("find out who answers: %w", err)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: it is user %d's", ErrForeign, cred.Uid)
	}
	// 0 is a process that has no number here. One of a namespace below ours has more
	// than one (proc_pid_status(5)).
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cred.Pid))
	if cred.Pid <= 0 || err != nil || namespaces(string(status)) != 1 {
		return fmt.Errorf("%w: it is in another pid namespace", ErrForeign)
	}
	return nil
}

// namespaces returns in how many pid namespaces from ours on a process has a number.
func namespaces(status string) int {
	for line := range strings.Lines(status) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			return len(strings.Fields(numbers))
		}
	}
	return 0
}
