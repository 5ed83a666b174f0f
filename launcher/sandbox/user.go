// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// maxPasswd bounds in bytes what is read of the container's user and group files.
const maxPasswd = 1 << 20

// identity is who a command is run as.
type identity struct {
	uid, gid int
	groups   []int
	home     string
}

// lookUp finds the identity that p asks for in the current root directory's
// /etc/passwd and /etc/group, which the image wrote.
func lookUp(p *Process) (identity, error) {
	passwd, err := openEtc("/etc/passwd")
	if err != nil {
		return identity{}, err
	}
	defer passwd.close()
	group, err := openEtc("/etc/group")
	if err != nil {
		return identity{}, err
	}
	defer group.close()
	u, err := user.GetExecUser(p.User, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return identity{}, fmt.Errorf("user %q: %w in the container's /etc/passwd or /etc/group", p.User, err)
	}
	id := identity{uid: u.Uid, gid: u.Gid, groups: u.Sgids, home: u.Home}
	if len(p.Groups) == 0 {
		return id, id.check()
	}
	again, err := openEtc("/etc/group")
	if err != nil {
		return identity{}, err
	}
	defer again.close()
	more, err := user.GetAdditionalGroups(p.Groups, again)
	if err != nil {
		return identity{}, fmt.Errorf("groups %q: %w", p.Groups, err)
	}
	id.groups = append(id.groups, more...)
	return id, id.check()
}

// maxID is the greatest id that a user or a group can have, as package user has it for
// those given by number. Of others setresuid(2) takes -1 for no change and cuts longer
// ones off: the command would be root's.
const maxID = 1<<31 - 1

// check refuses ids that the kernel would take for others.
func (id identity) check() error {
	for _, n := range append([]int{id.uid, id.gid}, id.groups...) {
		if n < 0 || n > maxID {
			return fmt.Errorf("id %d in the container's /etc/passwd or /etc/group: want one from 0 to %d", n, maxID)
		}
	}
	return nil
}

// An etcFile is a bounded reader of a file of the container, or of nothing.
type etcFile struct {
	io.Reader
	f *os.File
}

// openEtc opens a file of the image for reading: inside the root wherever links
// lead, without waiting for a pipe's other end, and regular (CVE-2024-9676). One that
// is not there is empty.
func openEtc(name string) (etcFile, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC, Resolve: insideLinks}
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return etcFile{Reader: io.LimitReader(nil, 0)}, nil
	}
	if err != nil {
		return etcFile{}, fmt.Errorf("open the container's %s: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return etcFile{}, fmt.Errorf("open the container's %s: not a regular file", name)
	}
	f := os.NewFile(uintptr(fd), name)
	return etcFile{Reader: io.LimitReader(f, maxPasswd), f: f}, nil
}

func (e etcFile) close() {
	if e.f != nil {
		e.f.Close()
	}
}
