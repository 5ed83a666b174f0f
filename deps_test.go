// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// modulePath is the module's import path, as go.mod gives it.
const modulePath = "github.com/slipway-net/slipway"

// A layer says what the packages of ours that match pkg may import of ours.
// Patterns are paths below the module; "." is the root, and "x/..." means x and
// all below it. The first layer that matches a package is its layer.
type layer struct {
	pkg    string
	mayUse []string
	why    string
}

var layers = []layer{
	{".", []string{"..."}, "main wires everything"},
	{"launcher/lan", []string{"netstack/loop", "tap", "tap/seqpacket"}, "a switch of frames, on the loop that carries the rest; it knows no container"},
	{"launcher/cninet", []string{"launcher/join", "launcher/sandbox", "launcher/userns"}, "it runs plugins in namespaces; it knows no session and no container"},
	{"launcher/sandbox", []string{"launcher/userns/inside", "launcher/tarball", "launcher/unlink", "tap/rawfork"}, "the init stage is small, or each start is slow"},
	{"launcher/fuse", []string{"launcher/userns"}, "it runs a program of others beside a container, and knows none"},
	{"launcher/initstage", []string{"launcher/sandbox"}, "the init stage is small, or each start is slow"},
	{"launcher/userns/inside", nil, "a leaf, linked into the init stage"},
	{"launcher/unlink", nil, "a leaf, linked into the init stage"},
	{"launcher/scope", nil, "a leaf: it asks systemd, and knows neither containers nor networks"},
	{"launcher/...", []string{"launcher/...", "netstack/attach", "netstack/policy", "tap", "tap/rawfork", "tap/seqpacket"}, "the launcher networks a container by a session, not by the stack's parts"},
	{"bench/...", []string{"bench/...", "netstack/attach", "netstack/policy", "tap", "launcher/userns"}, "the benchmark measures what users run: a session; it removes what engines leave as other ids"},
	{"scripts/...", nil, "scripts stand for the world outside"},
	{"cni-plugin/...", []string{"cni-plugin/...", "launcher/scope", "tap", "tap/seqpacket", "portfwd/client", "portfwd/portapi"}, "each ADD and DEL would otherwise page in the whole stack"},
	{"netstack/attach/getopt", nil, "a leaf: words in, options out"},
	{"netstack/attach/pasta", []string{"netstack/attach", "netstack/attach/getopt", "netstack", "netstack/policy", "portfwd", "tap"}, "a dialect says what a session is to be, and runs none"},
	{"netstack/attach/slirp4netns", []string{"netstack/attach", "netstack/attach/getopt", "netstack", "netstack/policy", "tap"}, "a dialect says what a session is to be, and runs none"},
	{"netstack/attach/attachtest", []string{"tap/seqpacket"}, "it makes machines for tests, and knows nothing of what they test"},
	{"netstack/attach/sandbox", nil, "a leaf: it is told what its process needs"},
	{"netstack/attach", []string{"netstack", "netstack/...", "portfwd/...", "tap"}, "the session joins the parts"},
	{"netstack", []string{"netstack/sockaddr", "netstack/shape", "netstack/relay", "netstack/splice", "netstack/loop", "netstack/policy", "netstack/frag", "netstack/dns", "netstack/dhcp", "netstack/neighbor", "tap"}, "the stack knows neither the session nor published ports"},
	{"netstack/loop", nil, "a leaf, usable without a stack"},
	{"netstack/shape", nil, "a leaf: it is told what passes"},
	{"netstack/relay", []string{"netstack/loop", "netstack/shape"}, "usable without a stack, by published ports too"},
	{"netstack/frag", nil, "a leaf: bytes in, bytes out"},
	{"netstack/dns", nil, "a leaf: it is told its upstreams"},
	{"netstack/policy", []string{"tap"}, "decides by the address plan alone, before any dial"},
	{"netstack/dhcp", []string{"tap"}, "answers from the address plan alone"},
	{"netstack/neighbor", []string{"tap"}, "answers from the address plan alone"},
	{"netstack/splice", []string{"netstack/sockaddr", "tap"}, "the kernel's path, which knows no stack"},
	{"netstack/hostport", []string{"netstack/sockaddr", "netstack/relay", "netstack/loop"}, "it is told who listens, and knows no stack"},
	{"netstack/sockaddr", nil, "a leaf"},
	{"netstack/...", []string{"netstack/relay", "netstack/loop", "tap"}, "parts of the stack do not know the stack"},
	{"portfwd/...", []string{"portfwd/...", "netstack/relay", "netstack/loop", "tap"}, "published ports see the stack only through an interface of their own"},
	{"tap/...", []string{"tap/..."}, "the container's end of the wire comes first in the order of dependency"},
}

// A fence says that only some packages of ours may import what lies outside.
type fence struct {
	imports string   // pattern of the import path
	allowed []string // packages of ours
	why     string
}

// The first fence that matches an import is the one that holds.
var fences = []fence{
	{"gvisor.dev/gvisor/pkg/tcpip/header", []string{"netstack", "netstack/attach", "netstack/neighbor"}, "gVisor's types stop at netstack's border"},
	{"gvisor.dev/gvisor/...", []string{"netstack", "netstack/attach"}, "gVisor's types stop at netstack's border"},
	{"github.com/google/nftables/...", []string{"netstack/splice"}, "one place makes rules in the container"},
	{"github.com/mdlayher/netlink/...", []string{"netstack/splice"}, "one place makes rules in the container"},
	{"github.com/containernetworking/cni/libcni", []string{"launcher/cninet"}, "one place runs the plugins of others, as processes: it is what the user asks for"},
	{"github.com/coreos/go-systemd/...", []string{"launcher/scope"}, "one place asks systemd"},
	{"github.com/godbus/...", []string{"launcher/scope"}, "one place asks systemd"},
	{"github.com/vbatts/tar-split/...", []string{"launcher/tarsplit"}, "one place reads what Podman keeps of archives, in a stage"},
	{"os/exec", []string{".", "launcher/...", "bench/..."}, "the network is set up by system calls; a command's errors are text"},
	{"net/http", []string{".", "netstack/attach", "portfwd/...", "launcher/image", "bench/...", "scripts/demoserver"}, "only APIs and registries speak HTTP"},
	{"github.com/google/go-containerregistry/pkg/v1", []string{"launcher/image", "launcher/store"}, "what an image is, is said in one place"},
	{"github.com/google/go-containerregistry/...", []string{"launcher/image"}, "one place knows registries"},
}

// imports maps each package of ours, as a path below the module, to the import
// paths in its files, tests left out.
type imports map[string][]string

func TestImports(t *testing.T) {
	got, err := readImports(".")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := got["tap"]; !ok {
		t.Fatalf("package tap not found among %v: is the test run in the module's root?", slices.Collect(maps.Keys(got)))
	}
	for _, broken := range check(got) {
		t.Error(broken)
	}
}

// TestImportsChecker proves that the checker finds what it is there to find.
func TestImportsChecker(t *testing.T) {
	ours := func(p string) string { return path.Join(modulePath, p) }
	tests := []struct {
		name string
		in   imports
		want []string
	}{
		{
			name: "the house in order",
			in: imports{
				".":                 {"os/exec", ours("netstack/attach"), ours("launcher")},
				"launcher":          {"os/exec", ours("netstack/attach"), ours("tap"), ours("launcher/rootfs")},
				"launcher/rootfs":   nil,
				"netstack":          {"gvisor.dev/gvisor/pkg/tcpip/stack", ours("tap"), ours("netstack/relay")},
				"netstack/attach":   {"net/http", ours("netstack"), ours("portfwd"), ours("portfwd/portapi"), ours("tap")},
				"netstack/neighbor": {"gvisor.dev/gvisor/pkg/tcpip/header", ours("tap")},
				"portfwd":           {"net/http", ours("netstack/relay"), ours("tap")},
				"tap":               {"net/netip"},
				"cni-plugin":        {ours("tap")},
			},
		},
		{
			name: "upwards",
			in:   imports{"tap": {ours("netstack/relay")}, "netstack": {ours("netstack/attach")}},
			want: []string{"netstack imports netstack/attach: ", "tap imports netstack/relay: "},
		},
		{
			name: "sideways",
			in:   imports{"portfwd": {ours("netstack")}, "launcher": {ours("netstack")}, "netstack/relay": {ours("tap")}},
			want: []string{"launcher imports netstack: ", "netstack/relay imports tap: ", "portfwd imports netstack: "},
		},
		{
			name: "gVisor beyond its border",
			in: imports{
				"launcher":          {"gvisor.dev/gvisor/pkg/tcpip"},
				"netstack/neighbor": {"gvisor.dev/gvisor/pkg/tcpip/stack"},
				"netstack/relay":    {"gvisor.dev/gvisor/pkg/tcpip/header"},
			},
			want: []string{
				"launcher imports gvisor.dev/gvisor/pkg/tcpip: ",
				"netstack/neighbor imports gvisor.dev/gvisor/pkg/tcpip/stack: ",
				"netstack/relay imports gvisor.dev/gvisor/pkg/tcpip/header: ",
			},
		},
		{
			name: "gVisor by way of another package",
			in:   imports{"cni-plugin": {ours("tap")}, "tap": {"gvisor.dev/gvisor/pkg/tcpip"}},
			want: []string{"cni-plugin reaches gvisor.dev/gvisor/pkg/tcpip: ", "tap imports gvisor.dev/gvisor/pkg/tcpip: "},
		},
		{
			name: "commands and HTTP where they have no place",
			in:   imports{"netstack": {"os/exec", "net/http"}},
			want: []string{"netstack imports net/http: ", "netstack imports os/exec: "},
		},
		{
			name: "a package for tests",
			in:   imports{"tap/taptest": {"os/exec", ours("tap")}, "tap": {ours("tap/taptest")}},
			want: []string{"tap imports tap/taptest: "},
		},
		{
			name: "a package without a layer",
			in:   imports{"utils": nil},
			want: []string{"utils has no layer: "},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, s := range check(tt.in) {
				head, _, _ := strings.Cut(s, ": ")
				got = append(got, head+": ")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("check (-want +got):\n%s", diff)
			}
		})
	}
}

// check returns a sorted line for each import that breaks a rule.
func check(pkgs imports) []string {
	var broken []string
	for pkg, list := range pkgs {
		i := slices.IndexFunc(layers, func(l layer) bool { return match(l.pkg, pkg) })
		if i < 0 {
			broken = append(broken, fmt.Sprintf("%s has no layer: say in deps_test.go what it may import", pkg))
			continue
		}
		for _, imp := range list {
			if why := forbidden(layers[i], pkg, imp); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", pkg, short(imp), why))
			}
		}
	}
	if imp := reaches(pkgs, "cni-plugin", "gvisor.dev/gvisor/..."); imp != "" {
		broken = append(broken, fmt.Sprintf("cni-plugin reaches %s: it must stay small", imp))
	}
	slices.Sort(broken)
	return broken
}

// forbidden returns the reason why pkg, of layer l, must not import imp, or "".
// A package for tests is held to its layer only: tests may start commands.
func forbidden(l layer, pkg, imp string) string {
	if ours, ok := below(imp); ok {
		if forTests(ours) && !forTests(pkg) {
			return "what is for tests has no place in the binary"
		}
		if ours != pkg && !matchAny(l.mayUse, ours) {
			return l.why
		}
		return ""
	}
	if forTests(pkg) {
		return ""
	}
	i := slices.IndexFunc(fences, func(f fence) bool { return match(f.imports, imp) })
	if i >= 0 && !matchAny(fences[i].allowed, pkg) {
		return fences[i].why
	}
	return ""
}

// reaches returns an import that matches pattern in pkg or in any package of
// ours that pkg depends on, or "".
func reaches(pkgs imports, pkg, pattern string) string {
	seen := map[string]bool{pkg: true}
	for queue := []string{pkg}; len(queue) > 0; queue = queue[1:] {
		for _, imp := range pkgs[queue[0]] {
			if match(pattern, imp) {
				return imp
			}
			if ours, ok := below(imp); ok && !seen[ours] {
				seen[ours] = true
				queue = append(queue, ours)
			}
		}
	}
	return ""
}

// match reports whether the path p matches pattern; see layer.
func match(pattern, p string) bool {
	dir, tree := strings.CutSuffix(pattern, "...")
	if !tree {
		return p == pattern
	}
	return strings.HasPrefix(p+"/", dir)
}

func matchAny(patterns []string, p string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return match(pattern, p) })
}

// below returns imp as a path below the module, if it is one of ours.
func below(imp string) (string, bool) {
	if imp == modulePath {
		return ".", true
	}
	return strings.CutPrefix(imp, modulePath+"/")
}

// forTests reports whether the package pkg of ours serves tests alone, such as
// tap/taptest.
func forTests(pkg string) bool { return strings.HasSuffix(pkg, "test") }

func short(imp string) string {
	if ours, ok := below(imp); ok {
		return ours
	}
	return imp
}

// readImports reads the imports of all files below root, those for other
// systems too, except tests.
func readImports(root string) (imports, error) {
	pkgs := imports{}
	err := walkGo(root, func(name string) error {
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		list := pkgs[path.Dir(name)]
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if !slices.Contains(list, imp) {
				list = append(list, imp)
			}
		}
		pkgs[path.Dir(name)] = list
		return nil
	})
	return pkgs, err
}

// walkGo calls f with the slash-separated name below root of each Go file of
// ours: not vendored, no test data, not hidden.
func walkGo(root string, f func(name string) error) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		hidden := rel != "." && strings.HasPrefix(d.Name(), ".")
		switch {
		case d.IsDir() && (hidden || d.Name() == "vendor" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || hidden || !strings.HasSuffix(name, ".go"):
			return nil
		}
		return f(filepath.ToSlash(rel))
	})
}
