// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/seccomp"
	"github.com/slipway-net/slipway/launcher/userns"
)

// stopGrace is how long a command has after SIGTERM before it is killed, when the
// context of Run is done: that of podman stop.
const stopGrace = 10 * time.Second

// A Container is one command in namespaces of its own. It is run once.
type Container struct {
	cfg    Config
	plan   plan
	asked  chan func(*running) // for the goroutine of Run, while the command runs
	ended  chan struct{}       // closed at the end of Run
	order  []byte              // what the init stage is told
	bundle *bundle             // of an OCI runtime; nil without one
	group  string              // the directory of its control group; empty without limits
	still  bool                // files are carried, in place of a command
}

// New checks c and writes the container down; it starts nothing and holds
// nothing. Its error is an ErrUsage if the caller's words are at fault.
func New(c Config) (*Container, error) { return newContainer(c, false) }

func newContainer(c Config, legacy bool) (*Container, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	ct := &Container{cfg: c, asked: make(chan func(*running)), ended: make(chan struct{})}
	ct.plan = plan{root: c.Root, user: c.User, groups: c.Groups, init: *c.Init, mapped: isMapped(c.IDs), legacy: legacy}
	pty := c.TTY || isTerminal(c.Stdin)
	ct.plan.streams, ct.plan.passed = replacedStreams(&c), len(c.Files)
	if c.Runtime != "" {
		pty = isTerminal(c.Stdin) && isTerminal(c.Stdout)
		ct.plan.init = false
	}
	h := Host{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Tun: hasTun(), Terminal: pty}
	if isTerminal(c.Stdin) {
		rows, columns := windowSize(c.Stdin)
		h.Rows, h.Columns = uint(rows), uint(columns)
	}
	ct.plan.spec = Spec(c, h)
	var err error
	if ct.plan.files, err = etcFiles(c); err != nil {
		return nil, err
	}
	ct.plan.filter, err = filter(&c, ct.plan.spec.Process.Capabilities.Bounding)
	return ct, err
}

// isMapped reports whether ids are mapped after the init stage's start: those that are not
// the caller's own.
func isMapped(ids userns.Mapping) bool { return !ids.IsZero() && !ids.IsOwn() }

// replacedStreams tells which streams a terminal of the container's replaces.
func replacedStreams(c *Config) (replaced [3]bool) {
	if c.Runtime != "" { // which has the caller's own terminal, and makes one of it
		return replaced
	}
	pty := c.TTY || isTerminal(c.Stdin)
	for i, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		replaced[i] = c.TTY || pty && isTerminal(f)
	}
	return replaced
}

// filter is the seccomp filter of c, nil for none.
func filter(c *Config, caps []string) ([]byte, error) {
	switch {
	case c.Seccomp == SeccompUnconfined, c.Seccomp == "" && c.Privileged:
		return nil, nil
	case c.Seccomp == "":
		return seccomp.Default(caps)
	}
	b, err := readLimited(c.Seccomp, maxProfile)
	if err != nil {
		return nil, fmt.Errorf("read the seccomp profile: %w", err)
	}
	program, err := seccomp.Compile(b, caps)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUsage, c.Seccomp, err)
	}
	return program, nil
}

// maxProfile bounds a caller's seccomp profile in bytes; the default one has 20 000.
const maxProfile = 1 << 20

// Run starts the container, passes signals and the terminal on, and returns the
// command's exit code once it has ended (128 plus the number of a signal that
// ended it). An error is a failure of the launcher or the network; the code is
// then 125, or 126 or 127 if the command could not be executed or found. When ctx
// is done, the command is asked to end by SIGTERM and killed ten seconds later.
func (ct *Container) Run(ctx context.Context) (code int, err error) {
	defer close(ct.ended)
	defer ct.closeFiles()
	r, err := ct.start()
	if err != nil {
		return sandbox.ExitOurs, err
	}
	defer r.close()
	sigs := newSignals()
	defer func() { r.after.Go(sigs.stop) }()
	if err := r.prepare(); err != nil {
		r.aborted = true
		r.kill()
		// What the init stage says goes before what follows from its end.
		code, ierr := r.wait(ctx, sigs)
		if ierr != nil {
			return code, ierr
		}
		return sandbox.FailureOf(err).Code, err
	}
	// If the init stage is gone the wait tells why.
	_ = sandbox.WriteFrame(r.ctl, sandbox.FrameGo, nil)
	r.carry(ctx)
	sigs.pass(ct.stopSignals()...)
	if ct.still { // which does not execute anything
		r.start()
	}
	return r.wait(ctx, sigs)
}

// Group is the directory of the container's control group, which is removed at its end;
// empty without limits. It is known once Config.Started is called.
func (ct *Container) Group() string { return ct.group }

// stopSignals are those that end the command besides the usual ones.
func (ct *Container) stopSignals() []os.Signal {
	if ct.cfg.StopSignal == 0 {
		return nil
	}
	return []os.Signal{ct.cfg.StopSignal}
}

// closeFiles closes Config.Files, once.
func (ct *Container) closeFiles() {
	for _, fd := range ct.cfg.Files {
		unix.Close(fd)
	}
	ct.cfg.Files = nil
}

// hasTun reports whether the host has the tun device.
func hasTun() bool {
	var st unix.Stat_t
	return unix.Stat("/dev/net/tun", &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(majorMisc, minorTun)
}
