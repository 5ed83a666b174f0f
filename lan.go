// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/lan"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/tap"
	"github.com/spf13/pflag"
)

// lansDir is where the user's private networks are, below the directory of what runs.
const lansDir = "lan"

// lanFlags are the flags about the private networks that containers share.
type lanFlags struct {
	networks []string
	aliases  []string
}

func (f *lanFlags) add(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.networks, "network", nil,
		"private network `NAME` to join, on which your containers reach each other by name (repeatable)")
	fs.StringSliceVar(&f.aliases, "network-alias", nil,
		"`NAME` by which the containers of --network find this one, besides its hostname (repeatable)")
}

// check says what of the flags cannot be.
func (f *lanFlags) check(cfg launcher.Config) error {
	if len(f.networks) == 0 {
		if len(f.aliases) > 0 {
			return fmt.Errorf("%w: --network-alias is a name on a network: give --network, too", errUsage)
		}
		return nil
	}
	if cfg.Net != "" && cfg.Net != launcher.NetPrivate {
		return fmt.Errorf("%w: --network needs a container with --net private", errUsage)
	}
	seen := map[string]bool{}
	for _, n := range f.networks {
		if err := lan.CheckName(n); err != nil {
			return fmt.Errorf("%w: --network: %w", errUsage, err)
		}
		if seen[n] {
			return fmt.Errorf("%w: --network %s is given twice", errUsage, n)
		}
		seen[n] = true
	}
	for _, n := range f.aliases {
		if err := lan.CheckName(n); err != nil {
			return fmt.Errorf("%w: --network-alias: %w", errUsage, err)
		}
	}
	return nil
}

// prepare returns the private networks of the flags, nil where there are none, and has
// the container look for names there.
func (f *lanFlags) prepare(cfg *launcher.Config, session *attach.Config) *lans {
	if len(f.networks) == 0 {
		return nil
	}
	l := &lans{flags: f, hostname: cfg.Hostname, mtu: session.Tap.MTU}
	session.LocalNames = l.lookup
	// Names without a dot are asked for as they are, before the host's search domains.
	cfg.ResolvOptions = append(cfg.ResolvOptions, "ndots:0")
	return l
}

// lans are a container's private networks.
type lans struct {
	flags    *lanFlags
	hostname string // empty is a random one
	mtu      int    // bytes

	mu      sync.Mutex // guards members
	members []*lan.Member
}

// lookup is the session's LocalNames.
func (l *lans) lookup(name string) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	var addrs []netip.Addr
	for _, m := range l.members {
		addrs = append(addrs, m.Lookup(name)...)
	}
	return addrs
}

// join takes the container, which has the process pid and the name, into its networks,
// and returns outside, which leads anywhere else, with them. After an error outside is
// closed.
func (l *lans) join(outside launcher.Network, pid int, name string, log *slog.Logger) (launcher.Network, error) {
	names := slices.Clone(l.flags.aliases)
	for _, n := range []string{name, l.hostname} {
		if lan.CheckName(n) == nil && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	n := lanNetwork{outside, l}
	for i, network := range l.flags.networks {
		m, err := lan.Join(lan.JoinConfig{
			Dir: filepath.Join(state.RunDir(os.Getenv), lansDir, network), Names: names, Target: tap.Target{PID: pid},
			Interface: "eth" + strconv.Itoa(i+1), MTU: l.mtu, OwnNamespace: true, Log: log,
		})
		if err != nil {
			n.Close()
			return nil, err
		}
		l.mu.Lock()
		l.members = append(l.members, m)
		l.mu.Unlock()
	}
	return n, nil
}

// run follows the networks until ctx is done.
func (l *lans) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, m := range l.members {
		all.Go(func() { _ = m.Run(ctx) }) // which ends with ctx alone
	}
	all.Wait()
}

func (l *lans) close() error {
	var errs []error
	for _, m := range l.members {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// A lanNetwork is a container's network with the private ones.
type lanNetwork struct {
	launcher.Network
	lans *lans
}

// Run runs the private networks, too.
func (n lanNetwork) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var side sync.WaitGroup
	side.Go(func() { n.lans.run(ctx) })
	defer side.Wait()
	defer cancel()
	return n.Network.Run(ctx)
}

// Close leaves the private networks, too.
func (n lanNetwork) Close() error { return errors.Join(n.lans.close(), n.Network.Close()) }

// lanSwitchMain is the process that joins the containers of a private network.
func lanSwitchMain(args []string, stderr io.Writer) int {
	cfg, err := lan.SwitchConfig(args)
	if err != nil {
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	s, err := lan.New(cfg)
	if err != nil {
		return report(stderr, err)
	}
	defer s.Close()
	if _, err := sandbox.Enter(sandbox.Policy{Filter: sandbox.Off, Remove: lan.Files(cfg.Dir)}); err != nil {
		return report(stderr, err)
	}
	return report(stderr, s.Run(context.Background()))
}
