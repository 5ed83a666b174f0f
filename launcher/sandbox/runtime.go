// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RootBelow is where a stage in ModeRuntime makes the root, below Order.Base.
const RootBelow = baseRoot

// An Identity is who a command is run as, looked up in the container's root.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// Encode is the payload of a FrameUser.
func (id *Identity) Encode() []byte {
	b := binary.AppendUvarint(nil, uint64(id.UID))
	b = binary.AppendUvarint(b, uint64(id.GID))
	b = binary.AppendUvarint(b, uint64(len(id.Groups)))
	for _, g := range id.Groups {
		b = binary.AppendUvarint(b, uint64(g))
	}
	return append(b, id.Home...)
}

// DecodeIdentity reads the payload of a FrameUser.
func DecodeIdentity(b []byte) (Identity, error) {
	var id Identity
	var groups uint32
	c := coder{in: b}
	number(&c, &id.UID)
	number(&c, &id.GID)
	number(&c, &groups)
	for range groups {
		var g uint32
		number(&c, &g)
		if c.err != nil {
			break
		}
		id.Groups = append(id.Groups, g)
	}
	if c.err != nil {
		return id, fmt.Errorf("decode the user: %w", c.err)
	}
	id.Home = string(c.in)
	return id, nil
}

// runtimeMain makes the root and executes an OCI runtime, which finds a bundle whose
// namespaces are nested in these. Pid 1 being the runtime, the container ends with it.
func runtimeMain(ctl *Control) (int, error) {
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	if len(o.Runtime) == 0 || o.Root.isHost() {
		return 0, errors.New("an OCI runtime needs an image, or a directory (--rootfs)")
	}
	if err := runtimeRoot(o, ctl); err != nil {
		return 0, err
	}
	if err := await(ctl, FrameGo); err != nil {
		return 0, fmt.Errorf("wait for the network: %w", err)
	}
	if err := placeFiles(&o.Process, ctl); err != nil {
		return 0, err
	}
	return 0, execError(o.Runtime[0], syscall.Exec(o.Runtime[0], o.Runtime, o.RuntimeEnv))
}

// runtimeRoot makes the root and tells the supervisor who the user is in it.
func runtimeRoot(o *Order, ctl *Control) error {
	s, err := newSetup(o, ctl)
	if err != nil {
		return err
	}
	defer s.close()
	if o.OwnNetwork {
		if err := LoopbackUp(); err != nil {
			return fmt.Errorf("set up lo: %w", err)
		}
	}
	if err := awaitMapping(o, ctl); err != nil {
		return err
	}
	// Not before the ids are mapped: see makeContainer.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the init stage untraceable: %w", err)
	}
	for _, do := range []func() error{s.separate, s.makeRoot, s.ownProc, s.oneHierarchy, s.netSysctls, func() error { return unix.Fchdir(s.root) }} {
		if err := do(); err != nil {
			return fmt.Errorf("could not make the root: %w", err)
		}
	}
	// The current directory stands for the root (openEtc).
	id, err := lookUp(&o.Process)
	if err != nil {
		return err
	}
	found := Identity{UID: uint32(id.uid), GID: uint32(id.gid), Home: id.home}
	for _, g := range id.groups {
		found.Groups = append(found.Groups, uint32(g))
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("leave the root: %w", err)
	}
	return WriteFrame(ctl, FrameUser, found.Encode())
}

// ownProc shows the processes of this pid namespace, by their numbers here.
func (s *setup) ownProc() error {
	return s.mt.attach(in(s.host, procDir), parseMount("proc", "proc", []string{"nosuid", "noexec", "nodev"}))
}

// cgroupDir is where control groups are.
const cgroupDir = "/sys/fs/cgroup"

// oneHierarchy puts version 2 in the place of a mixture of both, which crun refuses to
// run on even where it is told to leave control groups alone.
func (s *setup) oneHierarchy() error {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupDir, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		return nil
	}
	// Without it the runtime says what it misses.
	_ = s.mt.attach(in(s.host, cgroupDir), parseMount("cgroup2", "cgroup", []string{"nosuid", "noexec", "nodev"}))
	return nil
}

// netSysctls sets those of the network namespace, which is this stage's and not the
// runtime's.
func (s *setup) netSysctls() error {
	for _, c := range s.o.Sysctls {
		name := strings.ReplaceAll(c.Name, ".", "/")
		if !strings.HasPrefix(name, "net/") {
			continue
		}
		err := writeProcBelow(s.host, "sys/"+name, c.Value, false)
		if err != nil && c.Value != PingGroups {
			return fmt.Errorf("set sysctl %s: %w", c.Name, err)
		}
	}
	return nil
}
