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
	"strconv"
	"sync"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/lan"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/tap"
	"github.com/spf13/pflag"
)

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

// lans are a container's private networks. The zero value has none.
type lans struct {
	mu      sync.Mutex // guards members while they are joined
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

// join takes the container, which has the process pid, into its networks.
func (l *lans) join(f *lanFlags, hostname string, pid, mtu int, log *slog.Logger) error {
	names := append([]string{}, f.aliases...)
	if hostname != "" {
		names = append(names, hostname)
	}
	for i, n := range f.networks {
		m, err := lan.Join(lan.JoinConfig{
			Dir: filepath.Join(lanDir(), n), Names: names, Target: tap.Target{PID: pid},
			Interface: "eth" + strconv.Itoa(i+1), MTU: mtu, Log: log,
		})
		if err != nil {
			l.close()
			return err
		}
		l.mu.Lock()
		l.members = append(l.members, m)
		l.mu.Unlock()
	}
	return nil
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

// withLans lets a container have the private networks of the flags, besides what
// open gives it.
func withLans(f *lanFlags, cfg *launcher.Config, session *attach.Config, log *slog.Logger) {
	if len(f.networks) == 0 {
		return
	}
	l := &lans{}
	session.LocalNames = l.lookup
	cfg.ResolvOptions = append(cfg.ResolvOptions, "ndots:0") // names of one label are first asked for as they are
	open, mtu, hostname := cfg.Session, session.Tap.MTU, cfg.Hostname
	cfg.Session = func(pid int) (launcher.Network, error) {
		n, err := open(pid)
		if err != nil {
			return nil, err
		}
		if err := l.join(f, hostname, pid, mtu, log); err != nil {
			n.Close()
			return nil, err
		}
		return lanNetwork{n, l}, nil
	}
}

// lanDir is where the user's private networks are. They are gone after a restart, as
// their containers are.
func lanDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "slipway", "lan")
	}
	return filepath.Join(os.TempDir(), "slipway-"+strconv.Itoa(os.Getuid()), "lan")
}

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
