// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"testing"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// TestCheckAcceleration needs a kernel that has everything, as all tests here do.
func TestCheckAcceleration(t *testing.T) {
	attachtest.Open(t)
	before := resources(t)
	checks := attach.CheckAcceleration()
	if len(checks) < 2 {
		t.Fatalf("%d checks", len(checks))
	}
	for _, c := range checks {
		if !c.OK || c.Detail != "" {
			t.Errorf("%+v", c)
		}
	}
	settle(t, before)
}

// TestCheckSandbox needs a kernel that has everything, too.
func TestCheckSandbox(t *testing.T) {
	attachtest.Open(t)
	for _, c := range attach.CheckSandbox() {
		if !c.OK || c.Name == "" || c.Fix != "" {
			t.Errorf("%+v", c)
		}
	}
}
