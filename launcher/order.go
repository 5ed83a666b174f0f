// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// A plan is a container as it is about to be made: the OCI runtime-spec, and what
// that cannot say.
type plan struct {
	spec    *specs.Spec
	root    Root
	files   []sandbox.File
	user    string   // as the caller or the image gave it, to be looked up in the container
	groups  []string // supplementary groups, likewise
	streams [3]bool  // which of the standard streams the container's terminal replaces
	passed  int      // number of descriptors besides the streams
	init    bool     // pid 1 is ours
	mapped  bool     // ids are mapped after the start
	filter  []byte   // a seccomp filter of the caller's, if there is one
	legacy  bool     // mount(2) alone
}

// order is the plan as the init stage is told it.
func (p *plan) order() (*sandbox.Order, error) {
	s := p.spec
	o := &sandbox.Order{
		Hostname: s.Hostname, Domainname: s.Domainname,
		OwnNetwork: slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace }),
		Mapped:     p.mapped,
		Legacy:     p.legacy,
		Root:       p.root.order(),
		Files:      p.files,
		Masked:     s.Linux.MaskedPaths,
		Readonly:   s.Linux.ReadonlyPaths,
	}
	for _, m := range s.Mounts {
		if m.Destination != "/" { // that is Root
			o.Mounts = append(o.Mounts, sandbox.Mount{Destination: m.Destination, Type: m.Type, Source: m.Source, Options: m.Options})
		}
	}
	for _, d := range s.Linux.Devices {
		o.Devices = append(o.Devices, sandbox.Device{Path: d.Path, Block: d.Type == "b", Major: uint32(d.Major), Minor: uint32(d.Minor)})
	}
	for _, k := range sortedKeys(s.Linux.Sysctl) {
		o.Sysctls = append(o.Sysctls, sandbox.Sysctl{Name: k, Value: s.Linux.Sysctl[k]})
	}
	err := p.process(&o.Process)
	return o, err
}

// order is r as the init stage is told it.
func (r Root) order() sandbox.Root {
	return sandbox.Root{
		Dir: r.Dir, Lowers: r.Lowers, Data: r.Data, Upper: r.Upper, Work: r.Work,
		Volatile: r.Volatile, ReadOnly: r.ReadOnly, Fuse: r.Fuse != "",
	}
}

// process fills in the command and its rights.
func (p *plan) process(o *sandbox.Process) error {
	sp := p.spec.Process
	o.Args, o.Env, o.Cwd = sp.Args, sp.Env, sp.Cwd
	o.User, o.Groups = p.user, p.groups
	o.Umask = containerUmask
	if sp.User.Umask != nil {
		o.Umask = *sp.User.Umask
	}
	o.Bounding, o.Caps, o.UserCaps = capMask(sp.Capabilities.Bounding), capMask(sp.Capabilities.Permitted), capMask(sp.Capabilities.Ambient)
	o.NoNewPrivs = sp.NoNewPrivileges
	o.Terminal, o.Streams, o.Init = sp.Terminal, p.streams, p.init
	o.Files = uint32(p.passed)
	if sp.ConsoleSize != nil {
		o.Rows, o.Columns = uint32(sp.ConsoleSize.Height), uint32(sp.ConsoleSize.Width)
	}
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil {
		o.TimerSlack = uint64(slack)
	}
	if sp.OOMScoreAdj != nil {
		o.OOMScoreAdj = int32(*sp.OOMScoreAdj)
	}
	for _, l := range sp.Rlimits {
		n, ok := rlimits()[strings.TrimPrefix(l.Type, rlimitPrefix)]
		if !ok {
			return fmt.Errorf("%w: resource limit %q is not known", ErrUsage, l.Type)
		}
		o.Rlimits = append(o.Rlimits, sandbox.Rlimit{Resource: uint32(n), Soft: l.Soft, Hard: l.Hard})
	}
	o.Seccomp = p.filter
	return nil
}

// rlimitPrefix begins the names of limits in a runtime-spec.
const rlimitPrefix = "RLIMIT_"

// rlimits are the resource limits by the names that --ulimit has for them, in capital
// letters (getrlimit(2)).
func rlimits() map[string]int {
	return map[string]int{
		"AS": unix.RLIMIT_AS, "CORE": unix.RLIMIT_CORE, "CPU": unix.RLIMIT_CPU, "DATA": unix.RLIMIT_DATA, "FSIZE": unix.RLIMIT_FSIZE,
		"LOCKS": unix.RLIMIT_LOCKS, "MEMLOCK": unix.RLIMIT_MEMLOCK, "MSGQUEUE": unix.RLIMIT_MSGQUEUE, "NICE": unix.RLIMIT_NICE,
		"NOFILE": unix.RLIMIT_NOFILE, "NPROC": unix.RLIMIT_NPROC, "RSS": unix.RLIMIT_RSS, "RTPRIO": unix.RLIMIT_RTPRIO,
		"RTTIME": unix.RLIMIT_RTTIME, "SIGPENDING": unix.RLIMIT_SIGPENDING, "STACK": unix.RLIMIT_STACK,
	}
}
