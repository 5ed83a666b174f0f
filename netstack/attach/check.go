// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/slipway-net/slipway/netstack/attach/sandbox"
	"github.com/slipway-net/slipway/netstack/splice"
	"github.com/slipway-net/slipway/tap"
)

// CheckAcceleration reports what of the kernel the spliced path needs, part by
// part (tap.CheckAcceleration), and last whether the whole can be set up. It tries
// that in a new network namespace, which is gone when it returns.
func CheckAcceleration() []tap.Check {
	path, forward := trySplice()
	checks := tap.CheckAcceleration()
	for _, r := range []struct {
		name string
		err  error
	}{{"spliced TCP", path}, {"spliced TCP of containers behind a bridge", forward}} {
		c := tap.Check{Name: r.name, OK: r.err == nil}
		if r.err != nil {
			c.Detail = r.err.Error()
		}
		checks = append(checks, c)
	}
	return checks
}

// trySplice sets the spliced path up, in whole and for forwarded flows.
func trySplice() (path, forward error) {
	ns, err := tap.Scratch()
	if err != nil {
		return err, err
	}
	defer ns.Close()
	plan, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		return err, err
	}
	d, err := tap.Open(tap.Config{
		Target: tap.Target{NetNS: fmt.Sprintf("/proc/self/fd/%d", ns.Fd())},
		Plan:   plan, Configure: true, Pin: true, Inside: splice.Inside(tap.DefaultName),
	})
	if err != nil {
		return err, err
	}
	defer d.Close()
	h, err := splice.New(d.Name(), d.Inside(), splice.UntilNamespace)
	if err != nil {
		return err, err
	}
	defer h.Close() // the namespace goes, too
	for _, fd := range h.Listeners() {
		if fd < 0 {
			path = errors.New("TCP over IPv6 is stacked")
		}
	}
	return path, h.Forward()
}

// CheckSandbox reports which parts of the sandbox a helper can have that a plain user
// starts. The empty root is not among them: it is for those who may make mounts.
func CheckSandbox() []tap.Check {
	version, landlock := sandbox.Landlock()
	checks := []tap.Check{
		{Name: "Landlock for the helper", OK: landlock == nil, Detail: fmt.Sprintf("version %d", version)},
		{Name: "filter of system calls for the helper", OK: true},
	}
	for i, err := range []error{landlock, sandbox.Filter()} {
		if err != nil {
			checks[i].OK, checks[i].Detail = false, err.Error()
		}
	}
	return checks
}
