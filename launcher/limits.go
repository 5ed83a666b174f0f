// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A Rlimit is a resource limit of the command: Name as --ulimit has it (nofile),
// unlimited as RLIM_INFINITY.
type Rlimit struct {
	Name       string
	Soft, Hard uint64
}

// A Device is a node of the host that the container has besides the usual ones.
type Device struct {
	Source      string // absolute, on the host
	Destination string // absolute, in the container
	ReadOnly    bool   // cannot be opened for writing
}

// check says what of d cannot be.
func (d Device) check() error {
	if !path.IsAbs(d.Source) || !path.IsAbs(d.Destination) || path.Clean(d.Destination) == "/dev" {
		return fmt.Errorf("%w: device %q: want an absolute path, such as /dev/kvm", ErrUsage, d.Source)
	}
	st, err := os.Stat(d.Source)
	if err != nil {
		return fmt.Errorf("device: %w", err)
	}
	if st.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("%w: device %s: it is none; use --volume for files and directories", ErrUsage, d.Source)
	}
	return nil
}

// spec is d as a mount of a runtime-spec: who is root in the container alone may not
// make device nodes, and so has the host's.
func (d Device) spec() specs.Mount {
	m := specs.Mount{Destination: d.Destination, Type: "bind", Source: d.Source, Options: []string{"bind", "private", "nosuid", "noexec"}}
	if d.ReadOnly {
		m.Options = append(m.Options, "ro")
	}
	return m
}

// checkSysctls refuses kernel parameters that are not of the container's own
// namespaces: those would be the host's, which it cannot change anyway.
func (c *Config) checkSysctls() error {
	for _, name := range sortedKeys(c.Sysctls) {
		dotted := strings.ReplaceAll(name, "/", ".")
		net := strings.HasPrefix(dotted, "net.")
		ipc := strings.HasPrefix(dotted, "fs.mqueue.") || slices.Contains(ipcSysctls(), dotted)
		switch {
		case strings.Contains(dotted, "..") || strings.HasPrefix(dotted, "."):
			return fmt.Errorf("%w: sysctl %q: want a name such as net.ipv4.ip_forward", ErrUsage, name)
		case net && !c.Net.isOwn():
			return fmt.Errorf("%w: sysctl %s: it belongs to the network, which is not the container's own", ErrUsage, name)
		case !net && !ipc:
			return fmt.Errorf("%w: sysctl %s: it is the whole machine's; a container has those of net. and of System V IPC", ErrUsage, name)
		}
	}
	return nil
}

// ipcSysctls are the parameters of an IPC namespace (ipc_namespaces(7)).
func ipcSysctls() []string {
	return []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced", "kernel.msg_next_id", "kernel.sem_next_id", "kernel.shm_next_id",
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Limits are those of a control group; zero is none. See cgroups(7).
type Limits struct {
	Memory int64   // bytes
	CPUs   float64 // of one processor's time
	Pids   int64   // processes and threads
}

// IsZero reports whether nothing is limited.
func (l Limits) IsZero() bool { return l == Limits{} }
