// SPDX-License-Identifier: Apache-2.0

package tap_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/tap"
	"github.com/slipway-net/slipway/tap/taptest"
)

// insideEnv marks the test process that runs inside a user namespace.
const insideEnv = "SLIPWAY_TEST_INSIDE"

// inside runs the test again in a process of its own, as root of a new user and
// mount namespace. It returns true in that process, and in the first one, when
// the other has passed, false.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	taptest.RequireUserNS(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("inside the user namespace: %v\n%s", err, out)
	}
	return false
}

// TestInsideUserNS opens the tap of a container in our own user namespace, in
// which we have every capability.
func TestInsideUserNS(t *testing.T) {
	if !inside(t) {
		return
	}
	c := taptest.NewNetNS(t)
	for _, target := range []tap.Target{{PID: c.PID()}, {NetNS: c.NetNSPath()}} {
		for _, pin := range []bool{false, true} {
			d := open(t, tap.Config{Target: target, Configure: true, Plan: defaultPlan(t), Pin: pin})
			exchange(t, d)
			d.Close()
		}
	}
}

// TestTunMissing hides the tun device, then puts something else in its place.
func TestTunMissing(t *testing.T) {
	if !inside(t) {
		return
	}
	c := taptest.NewNetNS(t)
	if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	const load = "sudo modprobe tun"
	if got := tap.CheckTun(); got.OK || got.Fix != load {
		t.Errorf("CheckTun without the device: %+v", got)
	}
	for _, pin := range []bool{false, true} {
		d, err := tap.Open(tap.Config{Target: tap.Target{PID: c.PID()}, Pin: pin})
		if err == nil {
			d.Close()
			t.Fatal("Open succeeded without the device")
		}
		if !strings.Contains(err.Error(), "open /dev/net/tun") || !strings.Contains(err.Error(), load) {
			t.Errorf("Open without the device: %v", err)
		}
	}
	if err := os.WriteFile("/dev/net/tun", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tap.CheckTun(); got.OK || !strings.Contains(got.Fix, "mknod") {
		t.Errorf("CheckTun with a plain file: %+v", got)
	}
}

// TestNamespacesForbidden sets the limits of namespaces, which count for each
// user namespace, to zero.
func TestNamespacesForbidden(t *testing.T) {
	if !inside(t) {
		return
	}
	c := taptest.NewNetNS(t)
	for _, key := range []string{"max_net_namespaces", "max_user_namespaces"} {
		if err := os.WriteFile("/proc/sys/user/"+key, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	d, err := tap.Open(tap.Config{Target: tap.Target{PID: c.PID()}})
	if err == nil {
		d.Close()
		t.Fatal("Open succeeded without a throw-away namespace")
	}
	if !strings.Contains(err.Error(), "raise the sysctl user.max_net_namespaces") {
		t.Errorf("Open: %v", err)
	}
	if got := tap.CheckUserNS(); got.OK || got.Fix != "sudo sysctl -w user.max_user_namespaces=15000" {
		t.Errorf("CheckUserNS: %+v", got)
	}
	if got := tap.CheckAcceleration(); len(got) != 1 || got[0].OK || got[0].Fix == "" {
		t.Errorf("CheckAcceleration: %+v", got)
	}
}
