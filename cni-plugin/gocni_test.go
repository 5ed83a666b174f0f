// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	gocni "github.com/containerd/go-cni"
	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// goCNIWord makes the test's program that of goCNI. What comes behind it are the
// plugin's directory, a namespace and a server.
const goCNIWord = "go-cni"

// goCNIScript makes a machine where that can run.
const goCNIScript = `
export PATH=$PATH:/usr/sbin:/sbin
for dir in /run /var/lib; do mount -t tmpfs machine $dir; done
unshare -n sleep 1000 & pid=$!
until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
"$1" go-cni "$2" /proc/$pid/ns/net; code=$?
kill $pid
exit $code
`

// goCNI has go-cni, the library of containerd, set up a pod as containerd's CRI service
// does (internal/cri/server/sandbox_run.go and sandbox_stop.go): all networks at once, with
// what Kubernetes knows of the pod, and taken down without the namespace.
func goCNI(plugins, netns string) error {
	ctx, cancel := context.WithTimeout(context.Background(), attachtest.Patience)
	defer cancel()
	const conf = `{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"slipway-cni","subnet":%q,
		"capabilities":{"portMappings":true,"bandwidth":true,"dns":true,"cgroupPath":true,"io.kubernetes.cri.pod-annotations":true}}]}`
	c, err := gocni.New(
		gocni.WithPluginDir([]string{plugins, "/usr/lib/cni", "/opt/cni/bin"}), gocni.WithInterfacePrefix("eth"),
		gocni.WithMinNetworkCount(2), gocni.WithLoNetwork,
		gocni.WithConfListBytes(fmt.Appendf(nil, conf, "pods", "10.60.0.0/24")),
		gocni.WithConfListBytes(fmt.Appendf(nil, conf, "more", "10.61.0.0/24")),
	)
	if err != nil {
		return err
	}
	const id = "8f2c7d4b1a6e5093c2d18a7b64f0e9d35a1b2c3d4e5f60718293a4b5c6d7e8f9"
	opts := []gocni.NamespaceOpts{
		gocni.WithLabels(map[string]string{
			"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": "web", "K8S_POD_INFRA_CONTAINER_ID": id,
			"K8S_POD_UID": "1", "IgnoreUnknown": "1",
		}),
		gocni.WithCapability("io.kubernetes.cri.pod-annotations", map[string]string{"a": "b"}),
		gocni.WithCapabilityPortMap([]gocni.PortMapping{{HostPort: 18080, ContainerPort: 80, Protocol: "tcp"}}),
		gocni.WithCapabilityBandWidth(gocni.BandWidth{IngressRate: 100e6, IngressBurst: 1<<32 - 1, EgressRate: 100e6, EgressBurst: 1<<32 - 1}),
		gocni.WithCapabilityDNS(gocni.DNS{Servers: []string{"192.0.2.53"}}),
		gocni.WithCapabilityCgroupPath("/kubepods/pod1"),
	}
	r, err := c.Setup(ctx, id, netns, opts...)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	for _, name := range []string{"lo", "eth1", "eth2"} {
		i := r.Interfaces[name]
		if i == nil || len(i.IPConfigs) == 0 {
			return fmt.Errorf("there is no %s with an address", name)
		}
		fmt.Println(name, i.IPConfigs[0].IP)
	}
	for range 2 {
		if err := c.Remove(ctx, id, "", opts...); err != nil {
			return fmt.Errorf("remove: %w", err)
		}
	}
	return nil
}

// goCNIMain is the program of goCNI.
func goCNIMain(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, errors.New("want the plugin's directory and a namespace"))
		return 2
	}
	if err := goCNI(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestGoCNI does it as root of a machine.
func TestGoCNI(t *testing.T) {
	needPlugins(t, "loopback")
	m := attachtest.NewMachine(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got, code := m.Host.Run(t, "unshare", "--mount", "timeout", "60", "sh", "-c", goCNIScript, "sh", self, os.Getenv(binVar))
	if diff := cmp.Diff("lo 127.0.0.1\neth1 10.60.0.100\neth2 10.61.0.100\n", got); diff != "" || code != 0 {
		t.Errorf("exit code %d, output (-want +got):\n%s", code, diff)
	}
	if out, _ := m.Host.Run(t, "pgrep", "-fa", "slipway attach"); out != "" {
		t.Errorf("helpers are left: %s", out)
	}
}
