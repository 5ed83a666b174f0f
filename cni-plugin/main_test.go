// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// binVar names the directory of the built programs to the stages of the tests; one that
// is set already is tested as it is.
const binVar = "SLIPWAY_CNI_TEST_BIN"

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// testMain builds the programs once, for all tests, as they are released.
func testMain(m *testing.M) int {
	if len(os.Args) > 1 && os.Args[1] == goCNIWord {
		return goCNIMain(os.Args[2:])
	}
	flag.Parse()
	if os.Getenv(binVar) != "" || testing.Short() {
		return attachtest.Main(m)
	}
	dir, err := os.MkdirTemp("", "cni-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // other users run them, too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for name, pkg := range map[string]string{
		"slipway": "..", "slipway-cni": ".", "cnitool": "github.com/containernetworking/cni/cnitool",
	} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	os.Setenv(binVar, dir)
	return attachtest.Main(m)
}

// plugins are where the reference plugins are: Debian's, and those of others.
var plugins = [...]string{"/usr/lib/cni", "/opt/cni/bin"}

// A network is one of the plugin's, as a runtime of the plain user sees it.
type network struct {
	list  *libcni.NetworkConfigList
	cni   *libcni.CNIConfig
	state string // the plugin's state directory
	path  []string
}

// newNetwork makes a network of that version with those keys. The test's end finds out
// whether anything is left of it.
func newNetwork(t testing.TB, version string, keys map[string]any) *network {
	t.Helper()
	return newChain(t, version, []map[string]any{keys})
}

// newChain is newNetwork with a chain of plugins, of which those without a type are ours.
func newChain(t testing.TB, version string, chain []map[string]any) *network {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the built program: not with -short")
	}
	attachtest.Open(t)
	n := &network{state: shortDir(t)}
	n.path = append([]string{os.Getenv(binVar)}, plugins[:]...)
	var list []map[string]any
	for _, keys := range chain {
		conf := map[string]any{"type": "slipway-cni", "stateDir": n.state}
		if keys["type"] != nil {
			conf = map[string]any{}
		}
		maps.Copy(conf, keys)
		list = append(list, conf)
	}
	text, err := json.Marshal(map[string]any{"cniVersion": version, "name": "net", "plugins": list})
	if err != nil {
		t.Fatal(err)
	}
	if n.list, err = libcni.ConfListFromBytes(text); err != nil {
		t.Fatal(err)
	}
	n.cni = libcni.NewCNIConfigWithCacheDir(n.path, t.TempDir(), nil)
	t.Cleanup(func() { n.expectNothing(t) })
	return n
}

// shortDir makes a directory with a path that is short enough for sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// An attachment is that of a container to a network.
type attachment struct {
	n  *network
	rt *libcni.RuntimeConf
}

// attachment returns that of a container, which has not been added yet.
func (n *network) attachment(c *attachtest.Place, ifname string) *attachment {
	return &attachment{n, &libcni.RuntimeConf{
		ContainerID: fmt.Sprint("ctr-", c.PID()), NetNS: c.NetNSPath(), IfName: ifname, CapabilityArgs: map[string]any{},
	}}
}

// context bounds a command that would otherwise never end.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), attachtest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// add adds it, and deletes it at the test's end.
func (a *attachment) add(t testing.TB) *current.Result {
	t.Helper()
	r, err := a.tryAdd(t)
	if err != nil {
		t.Fatalf("ADD: %v", err)
	}
	t.Cleanup(func() {
		if err := a.del(t); err != nil {
			t.Errorf("DEL: %v", err)
		}
	})
	return r
}

func (a *attachment) tryAdd(t testing.TB) (*current.Result, error) {
	got, err := a.n.cni.AddNetworkList(patience(t), a.n.list, a.rt)
	if err != nil {
		return nil, err
	}
	if v := got.Version(); v != a.n.list.CNIVersion {
		t.Errorf("the result has version %s, want %s", v, a.n.list.CNIVersion)
	}
	return current.NewResultFromResult(got)
}

func (a *attachment) check(t testing.TB) error {
	return a.n.cni.CheckNetworkList(patience(t), a.n.list, a.rt)
}

func (a *attachment) del(t testing.TB) error {
	return a.n.cni.DelNetworkList(patience(t), a.n.list, a.rt)
}

// helpers returns the ids of the helpers of the network's attachments, which run or have
// been killed and not reaped.
func (n *network) helpers(t testing.TB) []int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range all {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), n.state+"/") && strings.HasPrefix(string(b), "slipway\x00attach\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// expectHelpers waits until so many helpers run.
func (n *network) expectHelpers(t testing.TB, want int) {
	t.Helper()
	eventually(t, func() error {
		if got := n.helpers(t); len(got) != want {
			return fmt.Errorf("helpers %v run, want %d", got, want)
		}
		return nil
	})
}

// expectNothing waits until neither helpers nor files of the network are left.
func (n *network) expectNothing(t testing.TB) {
	t.Helper()
	n.expectHelpers(t, 0)
	if left := files(t, n.state); len(left) > 0 {
		t.Errorf("files are left: %q", left)
	}
}

// files returns what is below a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var left []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			left = append(left, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return left
}

// eventually waits until f finds nothing wrong.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(attachtest.Patience)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Error(err)
			return
		}
	}
}

// expectCode says so if err is none of the specification with the code, that says what.
func expectCode(t testing.TB, err error, code uint, says string) {
	t.Helper()
	var e *types.Error
	if !asTypesError(err, &e) || e.Code != code || !strings.Contains(e.Msg+" "+e.Details, says) {
		t.Errorf("error %v, want code %d with %q", describe(err), code, says)
	}
}
