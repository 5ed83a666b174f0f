// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/slipway-net/slipway/cni-plugin/helper"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/cni-plugin/store"
	"github.com/slipway-net/slipway/portfwd/client"
	"github.com/slipway-net/slipway/portfwd/portapi"
	"github.com/slipway-net/slipway/tap"
)

// lockTimeout is how long an ADD, CHECK or DEL waits for another one of the same
// attachment: for as long as that may take.
const lockTimeout = 30 * time.Second

// cleanTimeout is how long an ADD that has failed may take to undo what it did.
const cleanTimeout = 10 * time.Second

// An adding is an ADD under way. What it has done is undone by undo, last first.
type adding struct {
	args  *skel.CmdArgs
	conf  *netconf.Conf
	entry *store.Entry
	undo  []func(context.Context)
}

// add is ADD.
func add(ctx context.Context, args *skel.CmdArgs) (err error) {
	conf, err := netconf.Load(args.StdinData, args.Args)
	if err != nil {
		return err
	}
	a := &adding{args: args, conf: conf}
	defer func() { a.end(ctx, err != nil) }()
	ns, err := identify(args)
	if err != nil {
		return err
	}
	prev, err := previous(conf, args.IfName, args.Netns)
	if err != nil {
		return err
	}
	host, err := conf.HostDNS()
	if err != nil {
		return err
	}
	state, err := store.Dir(conf.StateDir)
	if err != nil {
		return err
	}
	store.Sweep(state, conf.Name)
	if err := a.open(ctx, state, ns); err != nil {
		return err
	}
	leased, err := a.lease(ctx)
	if err != nil {
		return err
	}
	info, at, err := a.start(ctx, ns, leased)
	if err != nil {
		return err
	}
	return types.PrintResult(result(prev, leased, host, info, at), conf.CNIVersion)
}

// end undoes what was done, if the ADD has failed, and then gives up the lock: who
// waits for that must not find what is about to be removed.
func (a *adding) end(ctx context.Context, failed bool) {
	if failed {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		for i := range a.undo {
			a.undo[len(a.undo)-1-i](ctx)
		}
	}
	if a.entry != nil {
		a.entry.Close()
	}
}

// open locks the attachment's entry and clears away what is left of another one of the
// same names, whose container is gone.
func (a *adding) open(ctx context.Context, state string, ns namespace) (err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	a.entry, err = store.Open(ctx, state, a.conf.Name, a.args.ContainerID, a.args.IfName)
	if err != nil {
		return err
	}
	running, err := helper.Find(a.entry.PidFile())
	if err != nil {
		return err
	}
	if running != nil {
		defer running.Close()
		// Its helper keeps a namespace's number from being given to another one.
		if i := a.entry.Info(); i.NSDev == ns.dev && i.NSIno == ns.ino {
			return types.NewError(codeInterfaceBusy, fmt.Sprintf("%s of container %s is attached to network %s already: delete it first",
				a.args.IfName, a.args.ContainerID, a.conf.Name), "")
		}
		if err := running.Stop(ctx); err != nil {
			return err
		}
	}
	a.undo = append(a.undo, func(context.Context) { _ = a.entry.Remove() })
	return helper.Remove(a.entry.PidFile(), a.entry.API())
}

// reserve settles what the container can have once, and records it: of its attachments
// one publishes the ports, since runtimes ask all of them for the same, and no two have
// the same network unless they are told to. It returns the plan.
func (a *adding) reserve(ctx context.Context, ns namespace, leased *leases) (plan tap.Plan, err error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err = a.entry.Reserve(ctx, helper.Runs, func(others []store.Info) (store.Info, error) {
		var taken []netip.Prefix
		publishes := len(a.conf.Ports) > 0 && a.conf.Publishes()
		for _, o := range others {
			taken = append(taken, o.Networks...)
			publishes = publishes && !o.Publishes
		}
		if plan, err = a.conf.PlanHere(leased.addresses, taken...); err != nil {
			return store.Info{}, err
		}
		if !publishes {
			a.conf.Ports = nil
		}
		i := store.Info{
			Network: a.conf.Name, ContainerID: a.args.ContainerID, IfName: a.args.IfName,
			NetNS: a.args.Netns, NSDev: ns.dev, NSIno: ns.ino, Publishes: publishes, Created: time.Now(),
		}
		for _, f := range plan.Families() {
			i.Networks = append(i.Networks, f.Prefix)
		}
		return i, nil
	})
	return plan, err
}

// start starts the helper, and returns what it says of itself, and what it was told.
func (a *adding) start(ctx context.Context, ns namespace, leased *leases) (portapi.Info, helper.Attachment, error) {
	plan, err := a.reserve(ctx, ns, leased)
	if err != nil {
		return portapi.Info{}, helper.Attachment{}, err
	}
	routes, err := a.conf.RouteList(plan, leased.routes)
	if err != nil {
		return portapi.Info{}, helper.Attachment{}, err
	}
	at := helper.Attachment{
		IfName: a.args.IfName, NetNS: a.args.Netns, MAC: a.conf.MAC, MTU: a.conf.MTU,
		Plan: plan, Routes: routes, Conf: a.conf,
	}
	if at.MAC == "" {
		at.MAC = stableMAC(a.args.ContainerID, a.args.IfName)
	}
	if at.MTU == 0 {
		at.MTU = tap.DefaultMTU
	}
	if err := a.spawn(ctx, at); err != nil {
		return portapi.Info{}, at, err
	}
	a.undo = append(a.undo, func(ctx context.Context) { _ = a.stop(ctx) })
	info, err := client.Dial(a.entry.API()).Info(ctx)
	if err != nil {
		return portapi.Info{}, at, fmt.Errorf("ask the helper: %w", err)
	}
	return info, at, nil
}

// spawn starts the helper and waits until its network is up.
func (a *adding) spawn(ctx context.Context, at helper.Attachment) error {
	s := helper.Start{
		Args: at.Args(), NetNS: a.args.Netns,
		PidFile: a.entry.PidFile(), API: a.entry.API(), Log: a.entry.Log(), Lock: a.entry.Lock(),
	}
	if a.conf.OwnScope() {
		s.Started = func(ctx context.Context, pid int) error {
			// Half of the time is the helper's, to tell that it is ready.
			ctx, cancel := context.WithTimeout(ctx, a.conf.ReadyTimeout()/2)
			defer cancel()
			return toScope(ctx, pid, "container "+a.args.ContainerID)
		}
	}
	var err error
	if a.conf.ByBroker() {
		s.Elsewhere = func(ctx context.Context, log, ready *os.File) error {
			return askBroker(ctx, a.conf, a.args.Netns, s, log, ready)
		}
	} else if s.Program, err = helper.Program(a.conf.Helper); err != nil {
		return types.NewError(codeHelperFailed, err.Error(), "")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.conf.ReadyTimeout(), fmt.Errorf("it took longer than %v", a.conf.ReadyTimeout()))
	defer cancel()
	err = s.Run(ctx)
	var failed *helper.Failed
	switch {
	case errors.As(err, &failed) && strings.Contains(failed.Reason, tap.ErrNameTaken.Error()):
		return types.NewError(codeInterfaceBusy, failed.Reason, failed.Log)
	case errors.As(err, &failed):
		return types.NewError(codeHelperFailed, err.Error(), failed.Log)
	case errors.Is(err, helper.ErrNotReady):
		return types.NewError(codeHelperLate, err.Error(), helper.LogTail(a.entry.Log()))
	}
	return err
}

// stop ends the helper that was started.
func (a *adding) stop(ctx context.Context) error {
	running, err := helper.Find(a.entry.PidFile())
	if err != nil || running == nil {
		return err
	}
	defer running.Close()
	return running.Stop(ctx)
}

// stableMAC makes a locally administered unicast address of the attachment's names: a
// container that is started again is known to its neighbours, and to udev.
func stableMAC(containerID, ifname string) string {
	sum := sha256.Sum256([]byte(containerID + "\x00" + ifname))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac.String()
}

// A namespace is the identity of a network namespace.
type namespace struct{ dev, ino uint64 }

// identify looks at CNI_NETNS. The helper would find out as well what is wrong with it,
// but not name it by the specification's code.
func identify(args *skel.CmdArgs) (namespace, error) {
	bad := func(err error) (namespace, error) {
		return namespace{}, types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("CNI_NETNS: %v", err), "")
	}
	if !strings.HasPrefix(args.Netns, "/") {
		return bad(fmt.Errorf("%q: want an absolute path", args.Netns))
	}
	there, err := stat(args.Netns)
	if err != nil {
		return bad(err)
	}
	own, err := stat("/proc/thread-self/ns/net")
	if err != nil {
		return bad(err)
	}
	if there == own && !overridden(args) {
		return bad(fmt.Errorf("%s is the plugin's own network namespace: want that of a container", args.Netns))
	}
	return there, nil
}

// overridden reports whether the runtime knows that the namespace is the plugin's own.
func overridden(args *skel.CmdArgs) bool {
	return args.NetnsOverride == "1" || strings.EqualFold(args.NetnsOverride, "true")
}
