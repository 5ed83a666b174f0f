// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/slipway-net/slipway/cni-plugin/broker"
	"github.com/slipway-net/slipway/cni-plugin/helper"
	"github.com/slipway-net/slipway/cni-plugin/store"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// Codes of errors: 100 and above are the plugin's own (SPEC.md, "Error"). They are
// documented in docs/cni.md and stay what they are.
const (
	codeHelperFailed  uint = 100 // the helper could not be started
	codeHelperLate    uint = 101 // the helper did not get ready in time
	codeHelperGone    uint = 102 // CHECK: the helper does not run, or does not answer
	codeNotAsMade     uint = 103 // CHECK: the container's network is not as it was made
	codeState         uint = 104 // the state directory cannot be used
	codeBroker        uint = 105 // the broker cannot be asked
	codeUnavailable   uint = 50  // STATUS: ADD would not work
	codeInterfaceBusy      = types.ErrInvalidNetworkConfig
)

// codeOf returns the code of an error that has none yet.
func codeOf(err error) uint {
	var failed *helper.Failed
	switch {
	case errors.Is(err, broker.ErrBroker):
		return codeBroker
	case errors.Is(err, store.ErrBusy):
		return types.ErrTryAgainLater
	case errors.Is(err, helper.ErrNotReady):
		return codeHelperLate
	case errors.As(err, &failed):
		return codeHelperFailed
	case errors.Is(err, tap.ErrTarget):
		return types.ErrInvalidNetNS
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOSPC):
		return codeState
	}
	return types.ErrInternal
}
