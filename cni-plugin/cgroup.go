// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"strconv"

	"github.com/slipway-net/slipway/launcher/scope"
)

// toScope moves a helper, a child of ours, to a scope of its own, if systemd runs. In the
// group of who called the plugin it would end with that one's unit, and count as it.
func toScope(ctx context.Context, pid int, of string) error {
	m, ok := scope.Own(os.Getenv)
	if !ok {
		return nil
	}
	return m.Start(ctx, scope.Unit{
		Name: "slipway-cni-" + strconv.Itoa(pid), Description: "slipway's network of " + of, PIDs: []int{pid},
	})
}
