// SPDX-License-Identifier: Apache-2.0

package cninet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// StageName is the name of the stage that runs plugins, whose main function is Serve.
const StageName = "cni"

// ifName is the name of the container's interface.
const ifName = "eth0"

// Serve does what a request on in says, writes a reply to out, and waits for the end of
// in, until when the namespace that it may have made can be opened. It returns the exit
// code of a stage.
func Serve(in io.Reader, out io.Writer) int {
	var req request
	dec := json.NewDecoder(in)
	if err := dec.Decode(&req); err != nil {
		return 1 // the caller has gone
	}
	r, err := serve(&req)
	if err != nil {
		r = reply{Error: oneLine(err)}
	}
	if err := json.NewEncoder(out).Encode(r); err != nil {
		return 1
	}
	_, _ = io.Copy(io.Discard, in)
	return 0
}

// oneLine is the text of an error in one line of a bounded length.
func oneLine(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	return text[:min(len(text), maxError)]
}

// serve does what the request says, in a stage.
func serve(req *request) (reply, error) {
	for name, value := range req.Env {
		if err := os.Setenv(name, value); err != nil {
			return reply{}, fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := os.Chdir("/"); err != nil {
		return reply{}, err
	}
	if req.Command == del {
		if req.NetNS != 0 {
			unix.CloseOnExec(req.NetNS)
		}
		return reply{}, req.del(context.Background())
	}
	ns, err := newNamespace()
	if err != nil {
		return reply{}, err
	}
	if req.Command == namespace {
		return reply{NetNS: ns}, nil
	}
	req.NetNS = ns
	res, err := req.add(context.Background())
	return reply{NetNS: ns, Result: res}, err
}

// add runs plugins for the namespace NetNS, a descriptor of ours.
func (req *request) add(ctx context.Context) (Result, error) {
	cni, list, rt, err := req.libcni()
	if err != nil {
		return Result{}, err
	}
	res, err := addList(ctx, cni, list, rt)
	if err != nil {
		// As the specification has it, of what plugins had done before one failed. That it
		// fails, too, says nothing new.
		_ = delList(ctx, cni, list, rt)
	}
	return res, err
}

// del runs plugins for the namespace NetNS, or one that is gone.
func (req *request) del(ctx context.Context) error {
	cni, list, rt, err := req.libcni()
	if err != nil {
		return err
	}
	return delList(ctx, cni, list, rt)
}

// path is that of a descriptor of ours for other processes.
func path(fd int) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd) }

// libcni is the request in the words of that package. It passes only those capabilities
// on that the configuration has.
func (req *request) libcni() (*libcni.CNIConfig, *libcni.NetworkConfigList, *libcni.RuntimeConf, error) {
	list, err := libcni.NetworkConfFromBytes(req.Conf)
	if err != nil {
		return nil, nil, nil, err
	}
	rt := &libcni.RuntimeConf{
		ContainerID: req.ID, IfName: ifName,
		Args:           [][2]string{{"IgnoreUnknown", "1"}},
		CapabilityArgs: map[string]any{},
	}
	if len(req.Ports) > 0 {
		rt.CapabilityArgs[capPorts] = req.Ports
	}
	if len(req.Aliases) > 0 {
		rt.CapabilityArgs[capAliases] = req.Aliases
	}
	if req.NetNS != 0 {
		rt.NetNS = path(req.NetNS)
	}
	return libcni.NewCNIConfigWithCacheDir(req.Plugins, req.Cache, nil), list, rt, nil
}

// addList does ADD, and returns what the container is told of it.
func addList(ctx context.Context, cni *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) (Result, error) {
	res, err := cni.AddNetworkList(ctx, list, rt)
	if err != nil {
		return Result{}, err
	}
	r, err := types100.NewResultFromResult(res)
	if err != nil {
		return Result{}, fmt.Errorf("read the plugins' result: %w", err)
	}
	return resultOf(r)
}

// delList does DEL. Where one plugin fails libcni asks none of those before it, such as
// that which has a process to end; they are asked then one by one.
func delList(ctx context.Context, cni *libcni.CNIConfig, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	err := cni.DelNetworkList(ctx, list, rt)
	if err == nil {
		return nil
	}
	for _, p := range slices.Backward(list.Plugins) {
		one := *list
		one.Plugins = []*libcni.PluginConfig{p}
		_ = cni.DelNetworkList(ctx, &one, rt) // the first error is told
	}
	return err
}

// resultOf takes from a plugin's result what the container is told.
func resultOf(r *types100.Result) (Result, error) {
	var out Result
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Sandbox == "" {
			continue // the other end of it
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		ones, _ := ip.Address.Mask.Size()
		p := netip.PrefixFrom(a.Unmap(), ones)
		if !ok || !p.IsValid() {
			return Result{}, fmt.Errorf("the plugins' result has an address %s that is none", ip.Address.String())
		}
		if p.Addr().IsLoopback() {
			continue
		}
		out.Addrs = append(out.Addrs, p)
		if g, ok := netip.AddrFromSlice(ip.Gateway); ok {
			out.Gateways = append(out.Gateways, g.Unmap())
		}
	}
	for _, s := range r.DNS.Nameservers {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return Result{}, fmt.Errorf("the plugins' result has a name server %q that is no address", s)
		}
		out.DNS = append(out.DNS, a)
	}
	search := r.DNS.Search
	if len(search) == 0 && r.DNS.Domain != "" {
		search = []string{r.DNS.Domain}
	}
	out.Search, out.Options = words(search), words(r.DNS.Options)
	return out, nil
}

// words leaves out what is not one word: it would be another line of resolv.conf(5).
func words(all []string) []string {
	var out []string
	for _, s := range all {
		if f := strings.Fields(s); len(f) == 1 && f[0] == s {
			out = append(out, s)
		}
	}
	return out
}

// newNamespace makes a network namespace, with lo up, and returns a descriptor of it. It
// is made by a thread that ends then: none could come back from it, for want of rights on
// the host's.
func newNamespace() (int, error) {
	type made struct {
		fd  int
		err error
	}
	done := make(chan made)
	go func() {
		runtime.LockOSThread() // for good, so that the thread ends with the goroutine
		fd := -1
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = sandbox.LoopbackUp()
		}
		if err == nil {
			fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- made{fd, err}
	}()
	m := <-done
	if m.err != nil {
		return -1, fmt.Errorf("make a network namespace: %w", m.err)
	}
	return m.fd, nil
}

// errStage is that of a stage that has said nothing.
var errStage = errors.New("what runs the plugins was killed")
