// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/slipway-net/slipway/cni-plugin/helper"
	"github.com/slipway-net/slipway/cni-plugin/netconf"
	"github.com/slipway-net/slipway/cni-plugin/store"
)

// del is DEL. It succeeds where there is nothing to delete. The address goes back last,
// when nobody uses it any more.
func del(ctx context.Context, args *skel.CmdArgs) error {
	conf, err := netconf.LoadLoosely(args.StdinData)
	if err != nil {
		return err
	}
	state, err := store.Dir(conf.StateDir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	err = remove(ctx, state, conf.Name, args)
	if conf.IPAM.Type != "" {
		if ierr := invoke.DelegateDel(ctx, conf.IPAM.Type, args.StdinData, nil); ierr != nil {
			err = errors.Join(err, fmt.Errorf("give the addresses back to ipam %s: %w", conf.IPAM.Type, ierr))
		}
	}
	return err
}

// remove ends the helper and removes the attachment's state.
func remove(ctx context.Context, state, network string, args *skel.CmdArgs) error {
	entry, err := store.Find(ctx, state, network, args.ContainerID, args.IfName)
	if err != nil || entry == nil {
		return err
	}
	defer entry.Close()
	return end(ctx, entry)
}

// end ends the helper of a locked entry, and removes that.
func end(ctx context.Context, entry *store.Entry) error {
	running, err := helper.Find(entry.PidFile())
	if err != nil {
		return err
	}
	if running != nil {
		defer running.Close()
		if err := running.Stop(ctx); err != nil {
			return err
		}
	}
	return entry.Remove()
}
