// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/slipway-net/slipway/cni-plugin/helper"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/cni-plugin/store"
	"github.com/slipway-net/slipway/tap"
)

// status is STATUS: whether an ADD could work now.
func status(ctx context.Context, args *skel.CmdArgs) error {
	if _, err := netconf.Load(args.StdinData, ""); err != nil {
		return err
	}
	conf, err := netconf.LoadLoosely(args.StdinData)
	if err != nil {
		return err
	}
	var errs []error
	if conf.ByBroker() {
		errs = append(errs, checkBroker(ctx, conf.Outside))
	} else if _, err := helper.Program(conf.Helper); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, checkMachine()...)
	if state, err := store.Dir(conf.StateDir); err != nil {
		errs = append(errs, err)
	} else if err := store.Usable(state); err != nil {
		errs = append(errs, err)
	}
	if knows, err := ipamKnows(ctx, conf, "1.1.0"); err != nil {
		errs = append(errs, err)
	} else if knows {
		if err := invoke.DelegateStatus(ctx, conf.IPAM.Type, args.StdinData, nil); err != nil {
			errs = append(errs, fmt.Errorf("ipam %s: %w", conf.IPAM.Type, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return types.NewError(codeUnavailable, err.Error(), "")
	}
	return nil
}

// checkBroker connects to the broker.
func checkBroker(ctx context.Context, outside string) error {
	socket, err := brokerSocket(outside)
	if err != nil {
		return err
	}
	c, err := new(net.Dialer).DialContext(ctx, "unixpacket", socket)
	if err != nil {
		return fmt.Errorf("the broker is not there: %w: start it by: slipway-cni broker", err)
	}
	return c.Close()
}

// checkMachine looks at what a helper needs of the machine. Who is root, of the machine
// or of a user namespace, needs no other user namespace.
func checkMachine() []error {
	checks := []tap.Check{tap.CheckTun()}
	if os.Geteuid() != 0 {
		checks = append(checks, tap.CheckUserNS())
	}
	var errs []error
	for _, c := range checks {
		if !c.OK {
			errs = append(errs, fmt.Errorf("%s: %s: %s", c.Name, c.Detail, c.Fix))
		}
	}
	return errs
}

// ipamKnows reports whether the network has a plugin for addresses, and that knows the
// version of the specification. An older one takes GC and STATUS for mistakes.
func ipamKnows(ctx context.Context, conf *netconf.Conf, version string) (bool, error) {
	if conf.IPAM.Type == "" {
		return false, nil
	}
	path, err := invoke.FindInPath(conf.IPAM.Type, filepath.SplitList(os.Getenv("CNI_PATH")))
	if err != nil {
		return false, fmt.Errorf("find ipam %s: %w", conf.IPAM.Type, err)
	}
	info, err := invoke.GetVersionInfo(ctx, path, nil)
	if err != nil {
		return false, fmt.Errorf("ask ipam %s for its version: %w", conf.IPAM.Type, err)
	}
	return slices.Contains(info.SupportedVersions(), version), nil
}
