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
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/slipway-net/slipway/netstack"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/netstack/shape"
	"github.com/slipway-net/slipway/tap"
	"github.com/spf13/pflag"
)

// attachFlags are the flags of `slipway attach`.
type attachFlags struct {
	netFlags
	ifname      string
	mac         string
	userns      string
	noConfigure bool
	addresses   []string
	gateways    []string
	dnsAt       []string
	routes      []string
	names       []string
	beside      bool
	rateOut     string
	rateIn      string
	readyFD     int
	exitFD      int
	pidfile     string
	pid         *pidfile // nil without
	api         string
	sandbox     string
}

// The values of --sandbox.
const (
	sandboxAuto = "auto"
	sandboxOff  = "off"
)

func (f *attachFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.ifname, "ifname", tap.DefaultName, "`NAME` of the container's interface")
	f.netFlags.add(fs)
	fs.StringSliceVar(&f.addresses, "address", nil, "`ADDR` of the container, once for each family (default: number 100 of the network)")
	fs.StringSliceVar(&f.gateways, "gateway", nil, "`ADDR` of the gateway, the same way (default: number 2)")
	fs.StringSliceVar(&f.dnsAt, "dns-address", nil, "`ADDR` of the DNS server, the same way (default: number 3)")
	fs.StringSliceVar(&f.names, "dns-name", nil, "`NAME` for which the DNS server answers with the container's addresses (repeatable)")
	fs.StringSliceVar(&f.routes, "route", nil, "`CIDR` that leads to the gateway, or none (repeatable; default: everything)")
	fs.StringVar(&f.rateOut, "rate-out", "", "`RATE[:BURST]` in bits per second, and bits, that the container may send, such as 10M:64k")
	fs.StringVar(&f.rateIn, "rate-in", "", "`RATE[:BURST]` that it may receive")
	fs.BoolVar(&f.beside, "beside", false, "the container may have other networks: take no interface over, and put routes behind those that are there")
	fs.StringVar(&f.mac, "macaddress", "", "hardware `ADDRESS` of the container's interface (default random)")
	fs.StringVar(&f.userns, "userns", "", "user namespace at `PATH` to enter on the way (default: the network namespace's owner)")
	fs.BoolVar(&f.noConfigure, "no-configure", false, "leave addresses, routes and lo to the container")
	fs.IntVar(&f.readyFD, "ready-fd", -1, "write 1 to descriptor `N` when the network is up")
	fs.IntVar(&f.exitFD, "exit-fd", -1, "end when the other end of descriptor `N` is closed")
	fs.StringVar(&f.pidfile, "pidfile", "", "hold a lock on `FILE`, and write the process id there when the network is up")
	fs.StringVar(&f.api, "api", "", "answer slipway flows, ports and pcap at `SOCKET`")
	fs.StringVar(&f.sandbox, "sandbox", sandboxAuto, "`WHEN` to confine the process itself: auto, as far as can be done, or off")
}

const (
	attachSynopsis = "attach [flags] PID|NETNS-PATH"
	attachAbout    = `Gives the network namespace of the process PID, or at NETNS-PATH, a network:
its traffic is carried by sockets of the calling user. Runs until it is told to
stop, or until the namespace is gone.`
)

// runAttach is `slipway attach`.
func runAttach(args []string, stdout, stderr io.Writer) int {
	var f attachFlags
	fs := newFlagSet("attach")
	f.add(fs)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			usage(stdout, fs, attachSynopsis, attachAbout)
			return exitOK
		}
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	if fs.NArg() != 1 {
		return report(stderr, fmt.Errorf("%w: want one PID or NETNS-PATH, as in: slipway %s", errUsage, attachSynopsis))
	}
	return report(stderr, f.attach(fs.Arg(0), stderr))
}

// attach runs the session and returns when it has ended.
func (f *attachFlags) attach(target string, stderr io.Writer) error {
	w := newLogWriter(stderr)
	defer w.Close()
	log, err := f.logger(w)
	if err != nil {
		return err
	}
	if err := f.given(); err != nil {
		return err
	}
	cfg, err := f.config(log)
	if err != nil {
		return err
	}
	cfg.Tap.Name, cfg.Tap.Configure, cfg.Tap.Beside = f.ifname, !f.noConfigure, f.beside
	if cfg.Tap.Routes, err = parseRoutes(f.routes); err != nil {
		return err
	}
	if cfg.LocalNames, err = localNames(f.names, cfg.Tap.Plan); err != nil {
		return err
	}
	if cfg.Bandwidth, err = f.bandwidth(); err != nil {
		return err
	}
	if cfg.Tap.MAC, err = parseMAC(f.mac); err != nil {
		return err
	}
	if cfg.Tap.Target, err = tap.ParseTarget(target); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	cfg.Tap.Target.UserNS = f.userns
	if err := f.checkSandbox(); err != nil {
		return err
	}
	// Before descriptors are closed: one of them may be the lock of who starts us.
	if f.pidfile != "" {
		pid, err := lockPidfile(f.pidfile)
		if err != nil {
			return err
		}
		defer pid.remove()
		f.pid = pid
	}
	p, err := newProcess(f.readyFD, f.exitFD, fdOf(target)...)
	if err != nil {
		return err
	}
	if err := checkOtherEnd(f.exitFD); err != nil {
		return err
	}
	if err := attach.Tune(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s, err := attach.New(cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	return f.serve(ctx, s, p, log)
}

// fdOf returns the descriptor of a directory of ours that the target is found in, if it
// is given in that way.
func fdOf(target string) []int {
	var fd int
	if _, err := fmt.Sscanf(target, "/proc/self/fd/%d/", &fd); err != nil {
		return nil
	}
	return []int{fd}
}

// given reads the addresses that the user has chosen for the plan.
func (f *attachFlags) given() (err error) {
	for _, flag := range []struct {
		name  string
		words []string
		to    *[]netip.Addr
	}{
		{"--address", f.addresses, &f.at.Container},
		{"--gateway", f.gateways, &f.at.Gateway},
		{"--dns-address", f.dnsAt, &f.at.DNS},
	} {
		if *flag.to, err = parseAddrs(flag.name, flag.words); err != nil {
			return err
		}
	}
	return nil
}

// bandwidth reads the rates.
func (f *attachFlags) bandwidth() (b netstack.Bandwidth, err error) {
	for _, flag := range []struct {
		name, text string
		to         *shape.Rate
	}{{"--rate-out", f.rateOut, &b.Out}, {"--rate-in", f.rateIn, &b.In}} {
		if flag.text == "" {
			continue
		}
		if *flag.to, err = shape.ParseRate(flag.text); err != nil {
			return b, fmt.Errorf("%w: %s: %w", errUsage, flag.name, err)
		}
	}
	return b, nil
}

// parseRoutes reads networks; nil stands for all, which is the default.
func parseRoutes(words []string) ([]netip.Prefix, error) {
	if len(words) == 0 {
		return nil, nil
	}
	routes := []netip.Prefix{}
	for _, w := range without(words, none) {
		r, err := netip.ParsePrefix(w)
		if err != nil {
			return nil, fmt.Errorf("%w: --route %q: want a network such as 10.0.0.0/8, or %s", errUsage, w, none)
		}
		routes = append(routes, r)
	}
	return routes, nil
}

// serve makes the session known to whoever waits for it, and runs it.
func (f *attachFlags) serve(ctx context.Context, s *attach.Session, p *process, log *slog.Logger) error {
	stopCapture, err := f.capture(s)
	if err != nil {
		return err
	}
	defer stopCapture()
	if f.api != "" {
		api, err := attach.Listen(f.api, s)
		if err != nil {
			return err
		}
		defer api.Close()
	}
	if f.pid != nil {
		if err := f.pid.write(); err != nil {
			return err
		}
	}
	if _, err := s.Confine(f.policy()); err != nil {
		return err
	}
	ctx, cancel := p.watchExit(ctx, log)
	defer cancel()
	stopDump := dumpOnSignal(ctx, s, log)
	defer stopDump()
	if err := p.ready(); err != nil {
		return err
	}
	d := s.Device()
	log.Info("attached", "interface", d.Name(), "mtu", d.MTU(),
		"mac", d.MAC().String(), "offload", d.Offload().String(), "path", s.Path())
	err = s.Run(ctx)
	if errors.Is(err, attach.ErrGone) {
		log.Info("the namespace is gone, detaching")
		return nil
	}
	log.Info("detached")
	return err
}

// checkSandbox checks --sandbox, and makes the paths absolute of what is removed at the
// end, from where the working directory may be out of reach.
func (f *attachFlags) checkSandbox() error {
	if f.sandbox != sandboxAuto && f.sandbox != sandboxOff {
		return fmt.Errorf("%w: --sandbox %q: want %s or %s", errUsage, f.sandbox, sandboxAuto, sandboxOff)
	}
	for _, path := range []*string{&f.api, &f.pidfile} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("find %s: %w", *path, err)
		}
	}
	return nil
}

// policy returns what the process needs besides its session.
func (f *attachFlags) policy() sandbox.Policy {
	var p sandbox.Policy
	if f.sandbox == sandboxOff {
		p.Root, p.Landlock, p.Filter = sandbox.Off, sandbox.Off, sandbox.Off
	}
	for _, path := range []string{f.api, f.pidfile} {
		if path != "" {
			p.Remove = append(p.Remove, path)
		}
	}
	return p
}

// capture starts what --pcap asks for, and returns what ends it.
func (f *netFlags) capture(s *attach.Session) (stop func(), err error) {
	if f.pcap == "" {
		return func() {}, nil
	}
	// Without O_NONBLOCK a FIFO would be waited for.
	file, err := os.OpenFile(f.pcap, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("capture frames: %w", err)
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("capture frames: %s is no regular file, whose reader could stop the traffic: give one, or use --api and slipway pcap", f.pcap)
	}
	if err := s.StartCapture(file); err != nil {
		file.Close()
		return nil, err
	}
	return func() {
		_ = s.StopCapture() // a full disk ended the capture, not the session
		file.Close()
	}, nil
}

// dumpOnSignal logs flows and counters whenever the process gets SIGUSR1, until
// the returned function is called.
func dumpOnSignal(ctx context.Context, s *attach.Session, log *slog.Logger) func() {
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGUSR1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range sigs {
			for _, f := range s.Flows(ctx) {
				log.Info("flow", "flow", f.ID, "proto", f.Proto, "path", f.Path, "state", f.State,
					"container", f.Container, "remote", remote(f), "up", f.BytesUp, "down", f.BytesDown,
					"age", f.Age, "idle", f.Idle, "rtt", f.RTT)
			}
			for _, c := range s.Counters() {
				if c.Value > 0 {
					log.Info("counter", "name", c.Name, "value", c.Value)
				}
			}
		}
	}()
	return func() {
		signal.Stop(sigs)
		close(sigs)
		<-done
	}
}
