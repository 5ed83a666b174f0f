// SPDX-License-Identifier: Apache-2.0

package userns

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The tools that write mappings of subordinate ids for a plain user.
const (
	newUIDMap = "newuidmap"
	newGIDMap = "newgidmap"
)

// Write maps the ids of the user namespace that the process pid was started in. pid
// must be a child of the caller that nobody waits for meanwhile, so that the number
// cannot become another process's. An error's text says what mends it.
func (m Mapping) Write(pid int) error {
	if err := m.Check(); err != nil {
		return err
	}
	if direct() {
		return m.writeFiles(pid)
	}
	if m.IsOwn() {
		// Who may not set groups may map a gid of its own (user_namespaces(7)).
		if err := writeProc(pid, "setgroups", "deny"); err != nil {
			return err
		}
		return m.writeFiles(pid)
	}
	return runTools(pid, m)
}

// IsOwn reports whether m maps 0 to the caller's own ids, and nothing else, which needs
// no tool.
func (m Mapping) IsOwn() bool {
	return m.IsSingle() && m.UIDs[0].Inside == 0 && m.GIDs[0].Inside == 0 && m.UIDs[0].Outside == uint32(os.Geteuid()) && m.GIDs[0].Outside == uint32(os.Getegid())
}

func (m Mapping) writeFiles(pid int) error {
	if err := writeProc(pid, "uid_map", lines(m.UIDs)); err != nil {
		return err
	}
	return writeProc(pid, "gid_map", lines(m.GIDs))
}

func writeProc(pid int, name, content string) error {
	// O_TRUNC and O_CREATE are not for procfs; one write or none (user_namespaces(7)).
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/%s", pid, name), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(content)
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("map ids: %w", err)
	}
	return nil
}

func lines(ranges []Range) string {
	var b strings.Builder
	for _, r := range ranges {
		fmt.Fprintf(&b, "%d %d %d\n", r.Inside, r.Outside, r.Size)
	}
	return b.String()
}

// runTools runs newuidmap(1) and newgidmap(1) side by side.
func runTools(pid int, m Mapping) error {
	u := startTool(newUIDMap, pid, m.UIDs)
	g := startTool(newGIDMap, pid, m.GIDs)
	uerr, gerr := u.wait(), g.wait()
	if uerr != nil {
		return uerr // the other most often says the same
	}
	return gerr
}

// A tool is newuidmap(1) or newgidmap(1) at work. What it says is read after its end:
// it is a line.
type tool struct {
	name string
	pid  int
	said int   // the reading end of its standard error; -1 for none
	err  error // why it was not started
}

// startTool starts one. It is not by os.StartProcess, the first use of which forks once
// more to find out about pidfds, nor is it waited for through one: nobody else waits for
// our children.
func startTool(name string, pid int, ranges []Range) *tool {
	t := &tool{name: name, said: -1}
	path, err := exec.LookPath(name)
	if err != nil {
		t.err = err
		return t
	}
	args := []string{name, strconv.Itoa(pid)}
	for _, r := range ranges {
		for _, n := range []uint32{r.Inside, r.Outside, r.Size} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.err = os.NewSyscallError("pipe2", err)
		return t
	}
	defer unix.Close(ends[1])
	t.said = ends[0]
	none := ^uintptr(0)
	t.pid, t.err = syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{none, none, uintptr(ends[1])}})
	return t
}

// maxSaid bounds in bytes what is taken of a tool's words.
const maxSaid = 512

// wait waits for the tool's end.
func (t *tool) wait() error {
	if t.said >= 0 {
		defer unix.Close(t.said)
	}
	if t.err != nil {
		return fmt.Errorf("map ids: %s: %w; to mend it: %s", t.name, t.err, toolFix(t.name))
	}
	var ws unix.WaitStatus
	var err error
	for {
		if _, err = unix.Wait4(t.pid, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	switch {
	case err == nil && ws.Exited() && ws.ExitStatus() == 0:
		return nil
	case err == nil && ws.Signaled():
		err = fmt.Errorf("killed: %s", unix.SignalName(ws.Signal()))
	case err == nil:
		err = fmt.Errorf("exit status %d", ws.ExitStatus())
	}
	b := make([]byte, maxSaid)
	n, _ := unix.Read(t.said, b)
	said, _, _ := strings.Cut(strings.TrimSpace(string(b[:max(n, 0)])), "\n")
	return fmt.Errorf("map ids: %s: %w: %s; to mend it: %s", t.name, err, said, toolFix(t.name))
}

// toolFix says what keeps a set-user-ID tool from working.
func toolFix(name string) string {
	if n, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && n == 1 {
		return "run outside of what sets no_new_privs (a systemd unit with NoNewPrivileges=, a container)"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "sudo apt-get install uidmap (shadow-utils on Fedora)"
	}
	return fmt.Sprintf("look at subuid(5) and subgid(5), and whether %s is set-user-ID (ls -l) on a file system without nosuid", path)
}

// direct reports whether the caller may write any mapping itself.
func direct() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	// The owner of a file capability must be writable, too, to map the parent's root.
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETFCAP
	return data[0].Effective&need == need
}
