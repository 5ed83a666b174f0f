// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/cni-plugin/store"
)

// gc is GC: all attachments of the network go that the runtime does not name, with
// their helpers. One that cannot be removed does not save the others.
func gc(ctx context.Context, args *skel.CmdArgs) error {
	conf, err := netconf.LoadLoosely(args.StdinData)
	if err != nil {
		return err
	}
	state, err := store.Dir(conf.StateDir)
	if err != nil {
		return err
	}
	errs := []error{store.Each(state, conf.Name, func(e *store.Entry) error {
		i := e.Info()
		valid := slices.Contains(conf.ValidAttachments, types.GCAttachment{ContainerID: i.ContainerID, IfName: i.IfName})
		if valid {
			return nil
		}
		return end(ctx, e)
	})}
	if knows, err := ipamKnows(ctx, conf, "1.1.0"); err != nil {
		errs = append(errs, err)
	} else if knows {
		if err := invoke.DelegateGC(ctx, conf.IPAM.Type, args.StdinData, nil); err != nil {
			errs = append(errs, fmt.Errorf("have ipam %s collect garbage: %w", conf.IPAM.Type, err))
		}
	}
	return errors.Join(errs...)
}
