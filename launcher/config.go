// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/userns"
)

// ErrUsage is what errors.Is finds in an error that the user's words caused, such
// as an unknown network mode or a missing command.
var ErrUsage = errors.New("usage")

// NetMode says which network the container has. The zero NetMode is NetPrivate.
type NetMode string

// The network modes, as --net takes them.
const (
	NetPrivate NetMode = "private" // a namespace of its own, carried by Config.Session
	NetNone    NetMode = "none"    // a namespace of its own with nothing but lo
	NetHost    NetMode = "host"    // the caller's namespace
	NetJoined  NetMode = "joined"  // that of Config.Joined
)

// maxHostname is the longest hostname in bytes (__NEW_UTS_LEN in
// include/uapi/linux/utsname.h).
const maxHostname = 64

// A Network carries the container's traffic. The launcher calls Run at most once, in a
// goroutine of its own, when the command may start, and Close once after Run has returned.
type Network interface {
	// Run carries traffic until ctx is done, and then returns nil. It may return
	// an error earlier; the container is then killed.
	Run(ctx context.Context) error
	// Close frees what the network holds.
	Close() error
}

// A Root says what a container's root directory is made of. The zero Root is the
// host's own root under a layer that is thrown away. All paths are absolute, on the
// host, and belong to ids that Config.IDs maps; what is in the directories is not
// trusted.
type Root struct {
	// Dir is used as it is: the container writes to it. No other field but ReadOnly
	// goes with it.
	Dir string
	// Lowers are the lower layers of an overlay, topmost first.
	Lowers []string
	// Data are the data-only layers below them, to whose files a layer's
	// user.overlay.redirect points ("Data-only lower layers" in
	// Documentation/filesystems/overlayfs.rst of Linux).
	Data []string
	// Upper and Work are the overlay's writable layer and the empty directory beside
	// it that the kernel works in. Empty is a tmpfs that is thrown away.
	Upper, Work string
	// Fuse is the path of a fuse-overlayfs that is to stack Lowers and Upper, where the
	// kernel's overlayfs cannot; it takes no Data. Empty is the kernel's. Main calls
	// fuse.Serve for the stage fuse.StageName.
	Fuse string
	// Volatile gives up the writes' safety in a crash of the machine: for an Upper
	// that is removed when the container ends.
	Volatile bool
	// ReadOnly lets the container write to nothing but its volumes and tmpfs.
	ReadOnly bool
}

// IsHost reports whether r is the host's own root.
func (r Root) IsHost() bool { return r.Dir == "" && len(r.Lowers) == 0 }

// check says what of r cannot be.
func (r Root) check() error {
	paths := append(append([]string{}, r.Lowers...), r.Data...)
	for _, p := range append(paths, r.Dir, r.Upper, r.Work, r.Fuse) {
		if p != "" && !filepath.IsAbs(p) {
			return fmt.Errorf("root: %q: want an absolute path", p)
		}
	}
	switch {
	case r.Dir != "" && (len(r.Lowers) > 0 || len(r.Data) > 0 || r.Upper != "" || r.Work != ""):
		return errors.New("root: a directory and layers: want one or the other")
	case r.IsHost() && (len(r.Data) > 0 || r.Upper != "" || r.Work != ""):
		return errors.New("root: an upper or data layer without a lower one")
	case (r.Upper == "") != (r.Work == ""):
		return errors.New("root: want both an upper and a work directory or neither")
	case r.Fuse != "" && (r.Upper == "" || len(r.Data) > 0):
		return errors.New("root: fuse-overlayfs needs an upper layer, and takes no data layers")
	case len(r.Lowers)+len(r.Data) > maxLowers:
		return fmt.Errorf("root: %d layers: overlayfs takes %d at most", len(r.Lowers)+len(r.Data), maxLowers)
	}
	return nil
}

// maxLowers is the number of lower layers that overlayfs takes (OVL_MAX_STACK in
// fs/overlayfs/params.c).
const maxLowers = 500

// Config says what to run and how. It is copied by New.
type Config struct {
	// Args is the command and its arguments. A command without a slash is looked
	// for in the container's PATH.
	Args []string
	// Env holds KEY=VALUE words, which replace or add to the container's default
	// environment; the last of several wins.
	Env []string
	// Workdir is the absolute directory the command starts in; empty is "/".
	Workdir string
	// User is who the command is run as, USER[:GROUP], by number or by the
	// container's own name for it; empty is root. Groups are supplementary groups.
	User   string
	Groups []string
	// StopSignal is one that is passed on to the command besides those that users send,
	// such as a real-time signal; 0 is none.
	StopSignal syscall.Signal
	// Account, unless empty, is NAME:UID:GID of a user whom the container's passwd(5) and
	// group(5) get a line for, if they have none of these ids.
	Account string
	// Hostname is the container's name; empty is a random one. Domainname is its NIS
	// domain.
	Hostname, Domainname string
	// Net is the network mode; empty is NetPrivate.
	Net NetMode
	// Joined is the network namespace of NetJoined.
	Joined Joined
	// Root is the container's root directory; zero is the host's own.
	Root Root
	// IDs are the container's ids as they are outside of it; zero maps 0 to the
	// caller, and nothing else.
	IDs userns.Mapping
	// Mounts are the volumes and other file systems that the caller asks for.
	Mounts []Mount
	// Devices are nodes of the host besides the usual ones.
	Devices []Device
	// ShmSize bounds /dev/shm in bytes; 0 is 64 MB.
	ShmSize int64
	// Hosts are lines "NAME:ADDR" more for /etc/hosts. The address HostGateway stands for
	// those of Gateways.
	Hosts    []string
	Gateways []netip.Addr

	// CapAdd and CapDrop change the default set of capabilities: names of the form
	// that ParseCapability returns. Privileged gives all of them, hides nothing and
	// filters nothing; on the host the container has still no more rights than the
	// caller.
	CapAdd, CapDrop []string
	Privileged      bool
	// NewPrivs lets the command gain rights by set-user-ID programs and file
	// capabilities, within its own capabilities.
	NewPrivs bool
	// Seccomp is the filter's profile: empty the default one, SeccompUnconfined none,
	// else the name of a file in the JSON of Docker and Podman.
	Seccomp string
	// Unmask shows paths that are hidden or read-only by default, "ALL" all of them;
	// Mask hides more.
	Unmask, Mask []string
	// Rlimits, Sysctls and OOMScoreAdj are as setrlimit(2), sysctl(8) and proc(5) have
	// them. Without a limit the command has the caller's.
	Rlimits     []Rlimit
	Sysctls     map[string]string
	OOMScoreAdj int
	// Runtime is the name or path of an OCI runtime, such as crun, that is to run the
	// container in place of this package; empty is none. The command is then a
	// grandchild, and Exec cannot join it.
	Runtime string
	// Limits are those of a control group.
	Limits Limits

	// TTY gives the command a terminal on all three streams even where the
	// caller's are none. Without it each stream that is a terminal is replaced by
	// the container's if Stdin is one.
	TTY bool
	// Init says whether pid 1 is a process of ours, which passes signals on and reaps,
	// or the command. Nil is the former on the host's own root, and the latter on
	// any other, as other container tools have it.
	Init *bool
	// Stdin, Stdout and Stderr are the command's streams; they stay the caller's
	// to close. Nil is /dev/null.
	Stdin, Stdout, Stderr *os.File
	// Files are the command's descriptors from 3 on, MaxFiles at most: open ones of this
	// process, which are closed once the command's process has them, or Run has failed.
	Files []int

	// Session sets up the network in the namespaces of the process pid. It is
	// needed by NetPrivate alone. The command starts after it has returned. The
	// container's ids may not be mapped yet when it is called.
	Session func(pid int) (Network, error)
	// Stage is a binary for the init stage that was opened ahead; nil has Run open it.
	Stage *Stage
	// Begun is an init stage that waits already. It is used if it is one for this
	// container; nil, and any other, has Run start one.
	Begun *Begun
	// Started is called, on the goroutine of Run, once the command has been
	// executed; pid is that of the container's first process. It may be nil.
	Started func(pid int)
	// Ended is called, on a goroutine of its own, when no process of the container is left:
	// for what would hold up the end of Run, which waits for it. It may be nil.
	Ended func()
	// DNS, Search, ResolvOptions and ContainerAddrs go into resolv.conf and hosts; they are used
	// by NetPrivate, and by NetJoined where the network is the container's own.
	DNS            []netip.Addr
	Search         []string
	ResolvOptions  []string // options of resolv.conf(5)
	ContainerAddrs []netip.Addr

	// Log receives what the user need not act on; nil discards it.
	Log *slog.Logger
}

// MaxFiles bounds Config.Files.
const MaxFiles = sandbox.MaxFiles

// SeccompUnconfined is the value of Config.Seccomp for no filter.
const SeccompUnconfined = "unconfined"

// check fills in the zero values and says what of c cannot be.
func (c *Config) check() error {
	if c.Net == "" {
		c.Net = NetPrivate
	}
	if c.Workdir == "" {
		c.Workdir = "/"
	}
	if c.Hostname == "" {
		c.Hostname = randomName()
	}
	if c.ShmSize == 0 {
		c.ShmSize = defaultShm
	}
	if c.Init == nil {
		own := c.Root.IsHost()
		c.Init = &own
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := c.checkCommand(); err != nil {
		return err
	}
	switch c.Net {
	case NetPrivate, NetNone, NetHost, NetJoined:
	default:
		return fmt.Errorf("%w: network mode %q: want private, none or host", ErrUsage, string(c.Net))
	}
	if c.Net == NetPrivate && c.Session == nil {
		return errors.New("network mode private: no session to carry it")
	}
	if err := c.Root.check(); err != nil {
		return err
	}
	if !c.IDs.IsZero() {
		if err := c.IDs.Check(); err != nil {
			return err
		}
	}
	for _, check := range []func() error{c.checkMounts, c.checkSysctls, c.checkHosts, c.checkRuntime, c.Limits.check, func() error { return checkHostname(c.Hostname) }} {
		if err := check(); err != nil {
			return err
		}
	}
	if c.OOMScoreAdj < -maxOOMScore || c.OOMScoreAdj > maxOOMScore {
		return fmt.Errorf("%w: OOM score adjustment %d: want -%d to %d", ErrUsage, c.OOMScoreAdj, maxOOMScore, maxOOMScore)
	}
	return nil
}

// maxOOMScore bounds the adjustment of an OOM score (OOM_SCORE_ADJ_MAX in
// include/uapi/linux/oom.h).
const maxOOMScore = 1000

// defaultShm is the size of /dev/shm in bytes that other container tools give, too.
const defaultShm = 64 << 20

// checkCommand says what of the command cannot be.
func (c *Config) checkCommand() error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return fmt.Errorf("%w: no command: give one, as in: slipway run -- sh", ErrUsage)
	}
	if !strings.HasPrefix(c.Workdir, "/") {
		return fmt.Errorf("%w: working directory %q: want an absolute path", ErrUsage, c.Workdir)
	}
	if len(c.Files) > MaxFiles {
		return fmt.Errorf("%w: %d descriptors for the command: want %d at most", ErrUsage, len(c.Files), MaxFiles)
	}
	for _, w := range slices.Concat([]string{c.Workdir, c.User}, c.Args, c.Env, c.Groups) {
		if strings.ContainsRune(w, 0) {
			return fmt.Errorf("%w: %q has a NUL byte", ErrUsage, w)
		}
	}
	for _, e := range c.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return fmt.Errorf("%w: environment %q: want KEY=VALUE", ErrUsage, e)
		}
	}
	return nil
}

// An ImageDefaults is what an image says of its containers, which the caller may say
// otherwise (config of the OCI image-spec).
type ImageDefaults struct {
	Env             []string
	Entrypoint, Cmd []string
	Workdir, User   string
}

// ApplyImage puts what an image says in where c says nothing. entrypoint, unless nil,
// replaces the image's, and with it the image's command.
func (c *Config) ApplyImage(d ImageDefaults, entrypoint []string) {
	c.Env = append(slices.Clone(d.Env), c.Env...)
	if c.Workdir == "" {
		c.Workdir = d.Workdir
	}
	if c.User == "" {
		c.User = d.User
	}
	if entrypoint == nil {
		entrypoint = d.Entrypoint
		if len(c.Args) == 0 {
			c.Args = d.Cmd
		}
	}
	c.Args = slices.Concat(entrypoint, c.Args)
}

// checkHostname takes labels of letters, digits, hyphens and underscores joined
// by dots (RFC 1123 §2.1, and the underscore that other runtimes allow): what is
// safe to write into hosts(5).
func checkHostname(name string) error {
	if len(name) > maxHostname {
		return fmt.Errorf("%w: hostname %q: longer than %d bytes", ErrUsage, name, maxHostname)
	}
	for label := range strings.SplitSeq(name, ".") {
		ok := label != "" && !strings.HasPrefix(label, "-") && !strings.HasSuffix(label, "-")
		for _, r := range label {
			ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}
		if !ok {
			return fmt.Errorf("%w: hostname %q: want letters, digits, hyphens and dots", ErrUsage, name)
		}
	}
	return nil
}
