// SPDX-License-Identifier: Apache-2.0

package sandbox

import "errors"

// An Order is all that an init stage is told. The zero Order is not valid: it needs a
// command. What is in it is trusted; the files that its paths lead to are not.
type Order struct {
	Hostname   string
	Domainname string
	// OwnNetwork says that the stage has a network namespace of its own, whose lo it
	// sets up.
	OwnNetwork bool
	// Mapped says that the supervisor writes a mapping after the start, and tells by
	// FrameMapped when it is there.
	Mapped bool
	// Legacy makes the stage use mount(2) alone, as on a kernel (or under a seccomp
	// filter) without fsopen(2).
	Legacy bool

	// Base is where, on the host, the tmpfs goes with everything of the container;
	// empty is a place that is covered by it. Runtime and RuntimeEnv are the command
	// line and the environment of an OCI runtime (ModeRuntime).
	Base                string
	Runtime, RuntimeEnv []string

	Root     Root
	Mounts   []Mount // in the order in which they are made
	Devices  []Device
	Files    []File
	Sysctls  []Sysctl
	Masked   []string // paths that are covered with nothing
	Readonly []string // trees that cannot be written
	Process  Process
}

// A Root is what the root directory is made of: see launcher.Root, whose fields these
// are. The host's own root is the one with neither Dir nor Lowers.
type Root struct {
	Dir                string
	Lowers, Data       []string
	Upper, Work        string
	Volatile, ReadOnly bool
	Fuse               bool
}

// isHost reports whether the root is the host's own.
func (r *Root) isHost() bool { return r.Dir == "" && len(r.Lowers) == 0 }

// A Mount is one of the OCI runtime-spec: see specs.Mount.
type Mount struct {
	Destination, Type, Source string
	Options                   []string
}

// A Device is a node that the container has as its host has it.
type Device struct {
	Path         string
	Block        bool // a block device, not a character device
	Major, Minor uint32
}

// A File is one that the container has from its first moment, in place of what its
// root has there. An Entry is one line of passwd(5) or group(5), which comes behind what its
// root has there, unless that has the line's id already.
type File struct {
	Path, Content string
	Entry         bool
}

// A Sysctl is a kernel parameter of the container's namespaces, by its name with
// dots or slashes.
type Sysctl struct{ Name, Value string }

// A Process is a command and what it may do.
type Process struct {
	Args, Env []string
	Cwd       string
	// User is who the command is run as: USER[:GROUP], by number or as the
	// container's /etc/passwd and /etc/group have it. Empty is root.
	User string
	// Groups are supplementary groups besides those that /etc/group gives the user.
	Groups []string
	Umask  uint32
	// Caps is what a command of root holds; User what one of another user holds.
	// Neither may gain more than Bounding.
	Bounding, Caps, UserCaps uint64
	NoNewPrivs               bool
	// Seccomp is a filter as seccomp(2) takes it: 8 bytes for each instruction, in
	// the machine's byte order. Empty is none.
	Seccomp     []byte
	Rlimits     []Rlimit
	OOMScoreAdj int32
	// TimerSlack is the command's timer slack in nanoseconds, of which the stage has another
	// (prctl(2), PR_SET_TIMERSLACK); 0 leaves it.
	TimerSlack uint64

	Terminal      bool
	Rows, Columns uint32  // the terminal's size, 0 where it is not known
	Streams       [3]bool // which of the standard streams the terminal replaces
	// Files is the number of descriptors that the command has from 3 on, which the
	// stage was given behind ControlFD.
	Files uint32
	// Init keeps the stage as pid 1, which passes signals on and reaps. Without it
	// the command becomes pid 1.
	Init bool
}

// A Rlimit is a limit as setrlimit(2) has it; Resource is one of unix.RLIMIT_*.
type Rlimit struct {
	Resource   uint32
	Soft, Hard uint64
}

// check returns an error for an order that cannot be obeyed.
func (o *Order) check() error {
	if len(o.Process.Args) == 0 {
		return errors.New("the order has no command")
	}
	if len(o.Process.Seccomp)%bpfInstruction != 0 {
		return errors.New("the order's seccomp filter is cut off")
	}
	if o.Process.Files > MaxFiles {
		return errors.New("the order has too many descriptors")
	}
	return nil
}

// bpfInstruction is the length in bytes of a struct sock_filter (linux/filter.h).
const bpfInstruction = 8
