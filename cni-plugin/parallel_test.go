// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"golang.org/x/sync/errgroup"
)

// TestParallel adds and deletes fifty attachments at once.
func TestParallel(t *testing.T) {
	const many, atOnce = 50, 16
	n := newNetwork(t, "1.1.0", nil)
	all := make([]*attachment, many)
	for i := range all {
		all[i] = n.attachment(attachtest.NewContainer(t), "eth0")
	}
	before := interfaces(t)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, a := range all {
		g.Go(func() error {
			_, err := a.tryAdd(t)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	n.expectHelpers(t, many)
	for _, a := range all {
		g.Go(func() error { return a.del(t) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	n.expectNothing(t)
	if after := interfaces(t); !slices.Equal(before, after) {
		t.Errorf("interfaces of the host: %q, before %q", after, before)
	}
}

func interfaces(t testing.TB) []string {
	t.Helper()
	list, err := filepath.Glob("/sys/class/net/*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestDelDuringAdd has them race: whichever comes last, nothing is left after a DEL
// that came after.
func TestDelDuringAdd(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	for range 10 {
		a := n.attachment(attachtest.NewContainer(t), "eth0")
		var g errgroup.Group
		g.Go(func() error {
			_, err := a.tryAdd(t)
			return err
		})
		g.Go(func() error { return a.del(t) })
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		if err := a.del(t); err != nil {
			t.Error(err)
		}
		n.expectNothing(t)
	}
}

// TestKilled kills the plugin at any moment of an ADD. The DEL that the runtime calls
// then leaves nothing, and so does a new ADD.
func TestKilled(t *testing.T) {
	n := newNetwork(t, "1.1.0", nil)
	c := attachtest.NewContainer(t)
	a := n.attachment(c, "eth0")
	whole := timeOf(t, a)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range 40 {
		add := n.command(t, "ADD", a.rt)
		if err := add.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(rnd.Int64N(int64(whole) * 5 / 4)))
		_ = add.Process.Signal(syscall.SIGKILL)
		_ = add.Wait()
		if i%2 == 0 {
			if err := a.del(t); err != nil {
				t.Fatalf("DEL: %v", err)
			}
			n.expectNothing(t)
			continue
		}
		// A new ADD is refused if the first one was through; otherwise it has to work.
		if _, err := a.tryAdd(t); err == nil {
			expectTraffic(t, c)
			n.expectHelpers(t, 1)
		}
		if err := a.del(t); err != nil {
			t.Fatalf("DEL: %v", err)
		}
		n.expectNothing(t)
	}
}

// timeOf is how long an ADD takes.
func timeOf(t testing.TB, a *attachment) time.Duration {
	t.Helper()
	begin := time.Now()
	if _, err := a.tryAdd(t); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	if err := a.del(t); err != nil {
		t.Fatal(err)
	}
	return took
}

// command returns the plugin's command for an attachment, by itself.
func (n *network) command(t testing.TB, verb string, rt *libcni.RuntimeConf) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(n.path[0], "slipway-cni"))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_PATH="+n.path[0],
		"CNI_CONTAINERID="+rt.ContainerID, "CNI_NETNS="+rt.NetNS, "CNI_IFNAME="+rt.IfName)
	cmd.Stdin = openText(t, fmt.Sprintf(`{"cniVersion":%q,"name":"net","type":"slipway-cni","stateDir":%q}`, n.list.CNIVersion, n.state))
	return cmd
}

// openText returns a file to read the text from.
func openText(t testing.TB, text string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "stdin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return f
}
