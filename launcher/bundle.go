// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slipway-net/slipway/launcher/sandbox"
	"github.com/slipway-net/slipway/launcher/seccomp"
)

// A bundle is a directory with a container as OCI runtimes take it
// (https://github.com/opencontainers/runtime-spec/blob/main/bundle.md), for --runtime.
// User namespace, network and root are made by our stage, before the runtime starts.
type bundle struct {
	dir     string
	runtime string // absolute
}

// Names in a bundle.
const (
	bundleConfig = "config.json"
	bundleBase   = "base"  // where the stage makes the root
	bundleState  = "state" // the runtime's own
	bundleFiles  = "files" // files that the container has
)

// newBundle makes the directory and looks for the runtime.
func newBundle(c *Config) (*bundle, error) {
	path, err := exec.LookPath(c.Runtime)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: runtime: %w; to mend it: install it, or give its path", ErrUsage, err)
	}
	dir, err := os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), "slipway-bundle-")
	if err != nil {
		return nil, fmt.Errorf("make the runtime's bundle: %w", err)
	}
	b := &bundle{dir: dir, runtime: path}
	for _, d := range []string{bundleBase, bundleState, bundleFiles} {
		if err := os.Mkdir(filepath.Join(dir, d), dirMode); err != nil {
			b.close()
			return nil, fmt.Errorf("make the runtime's bundle: %w", err)
		}
	}
	// The container's root, which may be another user here, has to pass.
	if err := os.Chmod(dir, dirMode); err != nil {
		b.close()
		return nil, fmt.Errorf("make the runtime's bundle: %w", err)
	}
	return b, nil
}

func (b *bundle) close() { _ = os.RemoveAll(b.dir) } // what is mounted there is gone with its namespace

// order adds to the stage's order what the runtime needs; files is the number of
// descriptors that the command has besides its streams.
func (b *bundle) order(o *sandbox.Order, files int) {
	o.Base = filepath.Join(b.dir, bundleBase)
	o.Mounts, o.Devices = nil, nil // the runtime's to make, as are the files, which others look at
	o.Runtime = []string{b.runtime, "--root", filepath.Join(b.dir, bundleState)}
	if !strings.Contains(filepath.Base(b.runtime), "runc") {
		o.Runtime = append(o.Runtime, "--cgroup-manager=disabled")
	}
	o.Runtime = append(o.Runtime, "run", "--preserve-fds", strconv.Itoa(files), "--bundle", b.dir, filepath.Base(b.dir))
	for _, name := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			o.RuntimeEnv = append(o.RuntimeEnv, name+"="+v)
		}
	}
}

// write writes the configuration for the user that was found.
func (b *bundle) write(p *plan, c *Config, id sandbox.Identity) error {
	s := *p.spec
	process, linux := *s.Process, *s.Linux
	s.Process, s.Linux = &process, &linux
	s.Version = bundleVersion
	s.Root = &specs.Root{Path: filepath.Join(b.dir, bundleBase, sandbox.RootBelow), Readonly: p.root.ReadOnly}
	process.User.UID, process.User.GID, process.User.AdditionalGids = id.UID, id.GID, id.Groups
	if !slices.ContainsFunc(process.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		process.Env = append(slices.Clone(process.Env), "HOME="+id.Home)
	}
	capabilities := *process.Capabilities
	process.Capabilities = &capabilities
	if id.UID != 0 {
		capabilities.Effective, capabilities.Permitted, capabilities.Inheritable = capabilities.Ambient, capabilities.Ambient, capabilities.Ambient
	} else {
		capabilities.Ambient = nil
	}
	linux.UIDMappings, linux.GIDMappings = nil, nil
	linux.Namespaces = slices.DeleteFunc(slices.Clone(linux.Namespaces), func(n specs.LinuxNamespace) bool {
		return n.Type == specs.UserNamespace || n.Type == specs.NetworkNamespace
	})
	linux.Sysctl = nil // those of the network are set; New refuses others
	var err error
	if linux.Seccomp, err = bundleSeccomp(c, capabilities.Bounding); err != nil {
		return err
	}
	if s.Mounts, err = b.mounts(p); err != nil {
		return err
	}
	config, err := json.MarshalIndent(&s, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, bundleConfig), config, fileMode)
	}
	if err != nil {
		return fmt.Errorf("write the runtime's configuration: %w", err)
	}
	return nil
}

// bundleVersion is that of the runtime-spec in which all that we use was there already:
// crun 1.8 refuses what it does not know.
const bundleVersion = "1.0.2"

// fileMode is the mode of a bundle's files: the container's root has to read them.
const fileMode = 0o644

// mounts are those of the plan, without what only our stage knows, and its files.
func (b *bundle) mounts(p *plan) ([]specs.Mount, error) {
	var all []specs.Mount
	for _, m := range p.spec.Mounts {
		if m.Type == "cgroup2" { // a machine may have none that the runtime could mount
			continue
		}
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.HasPrefix(o, "x-slipway.") })
		all = append(all, m)
	}
	for i, f := range p.files {
		name := filepath.Join(b.dir, bundleFiles, strconv.Itoa(i))
		if err := os.WriteFile(name, []byte(f.Content), fileMode); err != nil {
			return nil, fmt.Errorf("write the container's files: %w", err)
		}
		all = append(all, specs.Mount{Destination: f.Path, Type: "bind", Source: name, Options: []string{"bind", "private"}})
	}
	return all, nil
}

// bundleSeccomp is the profile that filter compiles, as a runtime-spec has it.
func bundleSeccomp(c *Config, caps []string) (*specs.LinuxSeccomp, error) {
	switch {
	case c.Seccomp == SeccompUnconfined, c.Seccomp == "" && c.Privileged:
		return nil, nil
	case c.Seccomp == "":
		return seccomp.Expand(nil, caps)
	}
	b, err := readLimited(c.Seccomp, maxProfile)
	if err != nil {
		return nil, fmt.Errorf("read the seccomp profile: %w", err)
	}
	return seccomp.Expand(b, caps)
}

// checkRuntime says what an OCI runtime cannot be asked for.
func (c *Config) checkRuntime() error {
	if c.Runtime == "" {
		return nil
	}
	refuse := func(what string) error { return fmt.Errorf("%w: --runtime: %s", ErrUsage, what) }
	switch {
	case c.Root.IsHost():
		return refuse("it needs an image, or a directory (--rootfs)")
	case !c.Limits.IsZero():
		return refuse("limits on memory, CPUs and processes are slipway's own")
	case slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Kind == MountOverlay || m.Chown }):
		return refuse("volumes with O or U are slipway's own")
	}
	for _, name := range sortedKeys(c.Sysctls) {
		if !strings.HasPrefix(strings.ReplaceAll(name, "/", "."), "net.") {
			return refuse("sysctl " + name + ": only those of net. can be set")
		}
	}
	return nil
}

// errNoUser is the error of a stage that did not find out who the user is.
var errNoUser = errors.New("the init stage told no user")
