// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sys/unix"
)

func asTypesError(err error, to **types.Error) bool { return errors.As(err, to) }

func describe(err error) string {
	var e *types.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("%d: %s; %s", e.Code, e.Msg, e.Details)
	}
	return fmt.Sprint(err)
}

// expectTraffic has the container talk to the neighbour by both families.
func expectTraffic(t testing.TB, c *attachtest.Place) {
	t.Helper()
	w := attachtest.Open(t)
	for _, f := range attachtest.Families() {
		l := w.Peer.Listen(t, netip.AddrPortFrom(f.PeerAddr, 0))
		go func() {
			if s, err := l.Accept(); err == nil {
				fmt.Fprint(s, "hello")
				s.Close()
			}
		}()
		conn, err := c.Dial(t, "tcp", netip.MustParseAddrPort(l.Addr().String()))
		if err != nil {
			t.Errorf("%s: connect from the container: %v", f.Name, err)
			continue
		}
		if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
			t.Errorf("%s: the container got %q, %v", f.Name, got, err)
		}
	}
}

// TestVersions goes through an attachment's life in each version of the specification.
func TestVersions(t *testing.T) {
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			n := newNetwork(t, version, nil)
			c := attachtest.NewContainer(t)
			a := n.attachment(c, "eth0")
			got, err := a.tryAdd(t)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantResult(c, version, got.Interfaces[0].Mac), text(t, got)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			n.expectHelpers(t, 1)
			expectTraffic(t, c)
			if err := a.check(t); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			if version == "1.1.0" {
				if err := n.cni.GetStatusNetworkList(patience(t), n.list); err != nil {
					t.Errorf("STATUS: %v", err)
				}
				valid := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: a.rt.ContainerID, IfName: "eth0"}}}
				if err := n.cni.GCNetworkList(patience(t), n.list, valid); err != nil {
					t.Errorf("GC: %v", err)
				}
				n.expectHelpers(t, 1)
			}
			for range 2 {
				if err := a.del(t); err != nil {
					t.Errorf("DEL: %v", err)
				}
				n.expectNothing(t)
			}
			if out := c.Exec(t, "ip", "-o", "link"); strings.Contains(out, "eth0") {
				t.Errorf("the interface is left: %s", out)
			}
		})
	}
}

// wantResult is that of a container alone in its network.
func wantResult(c *attachtest.Place, version, mac string) []string {
	mtu := 65520
	if version == "0.4.0" {
		mtu = 0 // that version cannot tell
	}
	return []string{
		fmt.Sprintf("interface eth0 %s %d %s", mac, mtu, c.NetNSPath()),
		"ip 0 10.0.2.100/24 10.0.2.2", "ip 0 fd00::100/64 fd00::2",
		"route 0.0.0.0/0 10.0.2.2", "route ::/0 fd00::2",
		"dns [10.0.2.3 fd00::3] [] []",
	}
}

// text is a result in lines.
func text(t testing.TB, r *current.Result) []string {
	t.Helper()
	var lines []string
	for _, i := range r.Interfaces {
		lines = append(lines, fmt.Sprintf("interface %s %s %d %s", i.Name, i.Mac, i.Mtu, i.Sandbox))
	}
	for _, ip := range r.IPs {
		index := -1
		if ip.Interface != nil {
			index = *ip.Interface
		}
		lines = append(lines, fmt.Sprintf("ip %d %s %s", index, ip.Address.String(), ip.Gateway))
	}
	for _, to := range r.Routes {
		lines = append(lines, fmt.Sprintf("route %s %s", to.Dst.String(), to.GW))
	}
	return append(lines, fmt.Sprintf("dns %v %v %v", r.DNS.Nameservers, r.DNS.Search, r.DNS.Options))
}

// TestTwice has an interface of that name that is there.
func TestTwice(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	c := attachtest.NewContainer(t)
	a := n.attachment(c, "eth0")
	a.add(t)
	_, err := a.tryAdd(t)
	expectCode(t, err, types.ErrInvalidNetworkConfig, "already")
	// Also one that somebody else made, be it a tap that could be taken over.
	c.Exec(t, "ip", "tuntap", "add", "eth1", "mode", "tap")
	_, err = n.attachment(c, "eth1").tryAdd(t)
	expectCode(t, err, types.ErrInvalidNetworkConfig, "exists already")
	_, err = n.attachment(c, "lo").tryAdd(t)
	expectCode(t, err, types.ErrInvalidNetworkConfig, "exists already")
	n.expectHelpers(t, 1)
	expectTraffic(t, c)
}

// TestNamespaceEnds has a container end whose runtime never calls DEL.
func TestNamespaceEnds(t *testing.T) {
	n := newNetwork(t, "1.0.0", nil)
	c := attachtest.NewContainer(t)
	if _, err := n.attachment(c, "eth0").tryAdd(t); err != nil {
		t.Fatal(err)
	}
	n.expectHelpers(t, 1)
	c.Close()
	n.expectHelpers(t, 0)
	// What it has left goes with the next ADD.
	next := n.attachment(attachtest.NewContainer(t), "eth0")
	next.add(t)
	dirs := 0
	for _, f := range files(t, n.state) {
		if strings.Count(f, "/") == 2 {
			dirs++
		}
	}
	if dirs != 1 {
		t.Errorf("there are %d attachments, want 1: %q", dirs, files(t, n.state))
	}
}

// TestHelperKilled has the helper crash.
func TestHelperKilled(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	c := attachtest.NewContainer(t)
	a := n.attachment(c, "eth0")
	a.add(t)
	for _, pid := range n.helpers(t) {
		if err := unix.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	n.expectHelpers(t, 0)
	err := a.check(t)
	expectCode(t, err, 102, "does not run")
	// A runtime that starts the container's network anew, with DEL or without.
	if err := a.del(t); err != nil {
		t.Errorf("DEL: %v", err)
	}
	a.add(t)
	for _, pid := range n.helpers(t) {
		_ = unix.Kill(pid, syscall.SIGKILL)
	}
	n.expectHelpers(t, 0)
	a.add(t)
	if err := a.check(t); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	expectTraffic(t, c)
}

// TestHelperHangs has a helper that answers nothing: DEL ends it all the same.
func TestHelperHangs(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	a := n.attachment(attachtest.NewContainer(t), "eth0")
	a.add(t)
	for _, pid := range n.helpers(t) {
		if err := unix.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	expectCode(t, a.check(t), 102, "does not answer")
	if err := a.del(t); err != nil {
		t.Errorf("DEL: %v", err)
	}
	n.expectNothing(t)
}
