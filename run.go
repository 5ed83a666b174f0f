// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/cninet"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/supervise"
	"github.com/slipway-net/slipway/launcher/userns"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/tap"
	"github.com/spf13/pflag"
)

const (
	runSynopsis = "run [flags] IMAGE [COMMAND [ARG...]] | run [flags] -- COMMAND [ARG...]"
	runAbout    = `Runs COMMAND in a container of IMAGE, which is pulled if it is not here; without
COMMAND it runs what the image says. Without an image, this machine's own files are
those of the container, and what it writes is thrown away at the end. COMMAND's exit
code is passed on; 125 means that slipway failed, 126 that COMMAND cannot be run, 127
that it was not found.`
)

// exitRun is the exit code of `slipway run` where slipway itself failed, as other
// container tools have it.
const exitRun = 125

// volumesDir is the directory of named volumes, below that of containers.
const volumesDir = "volumes"

// newContainer, in place of an id, is what a detached supervisor gets for a
// container that is not there yet.
const newContainer = "new"

// settled is how long a container has run when its supervisor drops from memory what it
// needed to start it: most do not run that long.
const settled = time.Second

// carrying is how long a container with a network of ours has run when the Go runtime is
// fitted to carrying that: what takes half a millisecond is not to delay those that end
// at once.
const carrying = 20 * time.Millisecond

// runRun is `slipway run`.
func runRun(args []string, stdout, stderr io.Writer) int {
	r := newRunner(args)
	if err := r.fs.Parse(args); errors.Is(err, pflag.ErrHelp) {
		if i := slices.Index(args, "-h"); i >= 0 && i < len(args)-1 {
			// Who has meant a hostname, as with other tools, is not to take this for success.
			return report(stderr, fmt.Errorf("%w: -h is for help: for a hostname give --hostname %s", errUsage, args[i+1]))
		}
		usage(stdout, r.fs, runSynopsis, runAbout)
		return exitOK
	} else if err != nil {
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	code := exitRun
	fds, err := r.passed()
	if err != nil {
		complain(stderr, err)
		return exitCode(code, err)
	}
	if r.life.detach && !r.life.foreground {
		// What takes long is to be seen. The supervisor finds it done.
		if err := r.root.bring(r.fs, stderr); err != nil {
			complain(stderr, err)
			return exitCode(exitRun, err)
		}
		code, err = detach(newContainer, args, state.Invocation{}, fds, stdout)
	} else {
		r.cfg.Stdin, r.cfg.Stdout, r.cfg.Stderr = os.Stdin, os.Stdout, os.Stderr
		if r.left, err = leftOpen(); err == nil {
			err = r.give(fds)
		}
		if err == nil {
			code, err = r.run(stderr)
		}
	}
	if err != nil {
		complain(stderr, err)
	}
	return exitCode(code, err)
}

// A runner runs one container as its command line says.
type runner struct {
	args     []string // the words behind "run"
	fs       *pflag.FlagSet
	net      netFlags
	lans     lanFlags
	cni      cniFlags
	life     lifeFlags
	root     rootFlags
	more     *launcher.Flags
	preserve preserveFlags
	cfg      launcher.Config
	// again is the id of a container that is started again; empty is a new one. id is its
	// own in either case.
	again, id string
	lease     *userns.Lease // of --userns=auto; nil without
	// began and started are called as those of supervise.Config are; either may be
	// nil.
	began   func(*state.Held) error
	started func(state.Record)
	held    *state.Held
	super   *supervise.Supervisor
	// left are descriptors that the caller left open, and nobody needs.
	left []int
	// confined is for a container with a network of ours; nil without one.
	confined *confinement
	writable *store.Writable // what the container writes to; nil for none of the store's
	layer    string          // the directory of what it writes; empty for none that is kept
	joined   *joinedNetwork
	plugged  *cninet.Attachment // nil without --net cni:NAME
}

// newRunner returns a runner of the words behind "run", which its flag set is to
// parse.
func newRunner(args []string) *runner {
	r := &runner{args: args, fs: newFlagSet("run")}
	r.more = launcher.AddFlags(r.fs, &r.cfg, r.life.lookup, namedVolumes())
	r.root.add(r.fs)
	r.life.add(r.fs)
	r.net.add(r.fs)
	r.lans.add(r.fs)
	r.cni.add(r.fs)
	r.preserve.add(r.fs)
	must(r.fs.Lookup("log-level").Value.Set("warn"))
	r.fs.Lookup("log-level").DefValue = "warn"
	return r
}

// run starts the container, logs to w, and returns the container's exit code when
// it has ended.
func (r *runner) run(w io.Writer) (code int, err error) {
	r.cfg.Stage = launcher.OpenStage()
	defer r.cfg.Stage.Close()
	lines := newLogWriter(w)
	defer lines.Close()
	log, err := r.net.logger(lines)
	if err != nil {
		return exitRun, err
	}
	r.cfg.Log = log
	last, err := r.last()
	if err != nil {
		return exitRun, err
	}
	r.begin()
	defer func() { r.cfg.Begun.Close() }()
	r.id = cmp.Or(r.again, state.NewID())
	defer func() {
		if r.lease != nil {
			r.lease.Close()
		}
	}()
	r.root.ids = func(greatest uint32) (err error) {
		r.more.UserNS.Fit(greatest)
		r.lease, err = r.mapIDs()
		return err
	}
	root, err := r.root.prepare(context.Background(), r.fs, &r.cfg, last, log, w)
	if err != nil {
		return exitRun, err
	}
	r.layer, r.writable = root.dir(), root.writable
	// What is removed at the end need not be on the disk before.
	if !r.keeps() {
		r.cfg.Root.Volatile = r.layer != ""
		r.cfg.Ended = func() { root.discard(r.confined.end()) }
	}
	defer func() { err = errors.Join(err, root.close(r.kept(), r.confined.end())) }()
	if err := defaultIDs(&r.cfg, log); err != nil {
		return exitRun, err
	}
	if r.joined, err = r.joinNetwork(); err != nil {
		return exitRun, err
	}
	defer r.joined.close()
	defer r.unplug(log)
	if err := r.plug(); err != nil {
		return exitRun, err
	}
	if err := r.network(log); err != nil {
		return exitRun, err
	}
	if r.super, err = r.supervisor(log); err != nil {
		return exitRun, err
	}
	// The container's init passes signals on; ours only must not kill us first.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP)
	defer stop()
	return r.super.Run(ctx)
}

// begin starts the container's init stage, which does not wait for its image to be found
// and for all else that is not needed to start it, where its ids are those of the caller.
func (r *runner) begin() {
	if r.detached() || !r.more.UserNS.IsZero() {
		return
	}
	cfg := r.cfg
	if r.root.isOwn(r.fs) {
		caller, err := userns.Load()
		if err != nil {
			return // which will be told of by who cannot do without
		}
		if cfg.IDs, err = caller.Default(); err != nil {
			return
		}
	}
	r.cfg.Begun = launcher.Begin(cfg)
}

// last is the directory of what a container that is started again has written.
func (r *runner) last() (string, error) {
	if r.again == "" {
		return "", nil
	}
	s, err := openStore()
	if err != nil {
		return "", err
	}
	c, err := s.Load(r.again)
	if err != nil {
		return "", err
	}
	return c.Layer, nil
}

// keeps reports whether what the container writes is to outlive it.
func (r *runner) keeps() bool { return r.detached() && !r.life.remove }

// detached reports whether the container is to outlive the command that starts it.
func (r *runner) detached() bool {
	return r.life.detach && !r.life.foreground || r.again != ""
}

// kept reports whether what the container has written outlives it.
func (r *runner) kept() bool { return r.held != nil && r.held.Record().Keep }

// network fills in what the configuration says of the network.
func (r *runner) network(log *slog.Logger) error {
	if r.plugged != nil {
		return nil // by plugins
	}
	if err := r.lans.check(r.cfg); err != nil {
		return err
	}
	session, err := r.net.config(log)
	if err != nil {
		return err
	}
	if err := attach.Tune(); err != nil {
		return err
	}
	describe(&r.cfg, session)
	session.OwnNamespace, session.LateSplice = true, true
	private := r.lans.prepare(&r.cfg, &session)
	r.cfg.Session = func(pid int) (launcher.Network, error) {
		session.Tap.Target = tap.Target{PID: pid}
		c, err := newConfinement(pid, r.left)
		if err != nil {
			return nil, err
		}
		r.confined = c
		n, err := newContainerNetwork(session, &r.net, r.held.Dir(), r.confine, log)
		if err != nil || private == nil {
			return n, err
		}
		rec := r.held.Record()
		return private.join(n, pid, rec.DisplayName(), log)
	}
	return nil
}

// supervisor makes what looks after the container.
func (r *runner) supervisor(log *slog.Logger) (*supervise.Supervisor, error) {
	rec, err := r.record()
	if err != nil {
		return nil, err
	}
	r.cfg.StopSignal = syscall.Signal(rec.StopSignal)
	store, err := openStore()
	if err != nil {
		return nil, err
	}
	if err := r.life.makeRoom(store); err != nil {
		return nil, err
	}
	input, err := r.fs.GetBool("interactive")
	must(err)
	return supervise.New(supervise.Config{
		Store:   store,
		Record:  rec,
		Again:   r.again != "",
		Launch:  r.cfg,
		Input:   input,
		LogSize: r.life.logSize,
		Began: func(h *state.Held) error {
			r.held = h
			if r.began != nil {
				if err := r.began(h); err != nil {
					return err
				}
			}
			if r.again != "" {
				return nil // it has its --cidfile
			}
			return r.life.began(h.Record())
		},
		Started: func(rec state.Record) {
			err := errors.Join(r.life.started(rec), notifyReady(os.Getenv))
			if err != nil {
				log.Warn("the container runs, but not all were told", "err", err)
			}
			if r.started != nil {
				r.started(rec)
			}
			if r.cfg.Session != nil {
				time.AfterFunc(carrying, attach.Settle)
			}
			time.AfterFunc(settled, r.confined.dropFootprint)
			if r.confined != nil {
				close(r.confined.started)
			}
		},
		Ended: func() {
			r.unplug(log)
			r.life.ended(rec.Keep)
		},
		Log: log,
	})
}

// record is what is written down of the container.
func (r *runner) record() (state.Record, error) {
	if s := r.root.stopSignal; s != "" && !r.fs.Changed("stop-signal") {
		if _, err := parseSignal(s); err != nil {
			return state.Record{}, fmt.Errorf("the image's stop signal: %w; to mend it: give --stop-signal", err)
		}
		r.life.stopSignal = s
	}
	rec, err := r.life.record(r.args)
	if err != nil {
		return rec, err
	}
	rec.ID, rec.Args, rec.TTY = r.id, r.cfg.Args, r.cfg.TTY
	rec.Image, rec.Layer = r.root.word, r.layer
	rec.Net = string(r.cfg.Net)
	if rec.Net == "" {
		rec.Net = string(launcher.NetPrivate)
	}
	for _, p := range r.net.publish {
		rec.Ports = append(rec.Ports, p.String())
	}
	rec.UIDs = []state.Mapping{{Container: 0, Host: uint32(os.Geteuid()), Size: 1}}
	rec.GIDs = []state.Mapping{{Container: 0, Host: uint32(os.Getegid()), Size: 1}}
	if !r.cfg.IDs.IsZero() {
		rec.UIDs, rec.GIDs = stateMapping(r.cfg.IDs.UIDs), stateMapping(r.cfg.IDs.GIDs)
	}
	if r.lease != nil {
		rec.Slice = state.Slice(r.lease.Slice)
	}
	if j := r.joined; j != nil {
		rec.Net = j.word
		if j.uids != nil {
			rec.UIDs, rec.GIDs = j.uids, j.gids
		}
	}
	if r.plugged != nil {
		rec.Net, rec.Addrs = r.cni.word, r.plugged.Result.Addrs
	}
	rec.Detached, rec.Keep = r.detached(), r.keeps()
	return rec, nil
}

// stateMapping is what is written down of a mapping.
func stateMapping(ranges []userns.Range) []state.Mapping {
	var m []state.Mapping
	for _, r := range ranges {
		m = append(m, state.Mapping{Container: r.Inside, Host: r.Outside, Size: r.Size})
	}
	return m
}

// must panics on an error that only a mistake in this program can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
