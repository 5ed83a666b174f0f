// SPDX-License-Identifier: Apache-2.0

package launcher

import "github.com/spf13/pflag"

// Flags are what the launcher's flags say besides the Config.
type Flags struct {
	// UserNS is the value of --userns.
	UserNS UserNS
}

// AddFlags adds the launcher's flags to fs, which fill c when fs is parsed, and the
// Flags that are returned. Parsing stops at the first word that is no flag. lookup is
// where -e KEY finds a value, normally os.LookupEnv. volumes is the directory of named
// volumes.
func AddFlags(fs *pflag.FlagSet, c *Config, lookup func(string) (string, bool), volumes string) *Flags {
	f := &Flags{}
	fs.SetInterspersed(false)
	addCommandFlags(fs, c, lookup)
	addRootFlags(fs, c, volumes)
	addRightsFlags(fs, c, f)
	addLimitFlags(fs, c)
	return f
}

// addCommandFlags are those of the command and where it finds itself.
func addCommandFlags(fs *pflag.FlagSet, c *Config, lookup func(string) (string, bool)) {
	AddProcessFlags(fs, &c.Env, &c.Workdir, lookup)
	fs.StringVarP(&c.User, "user", "u", "", "`USER[:GROUP]`, by number or the container's name, that runs the command (default the image's, or root)")
	fs.StringSliceVar(&c.Groups, "group-add", nil, "`GROUP,...` more that the command is in")
	fs.StringVar(&c.Hostname, "hostname", "", "`NAME` of the container (default random)")
	fs.StringVar(&c.Domainname, "domainname", "", "NIS domain `NAME` of the container")
	fs.StringArrayVar(&c.Hosts, "add-host", nil, "`NAME:ADDR` more in /etc/hosts; host-gateway is the gateway's address (repeatable)")
	fs.Var((*netValue)(&c.Net), "net", "`MODE` of the network: private, none, host, container:NAME, cni:NAME or the path of a network namespace")
	fs.BoolP("interactive", "i", false, "pass standard input on (in the foreground always so)")
	fs.BoolVarP(&c.TTY, "tty", "t", false, "give the command a terminal even where standard input is none")
	initFlag := fs.VarPF(&initValue{&c.Init}, "init", "", "keep a pid 1 that reaps and passes signals on (default with the host's own root)")
	initFlag.NoOptDefVal = "true"
}

// AddProcessFlags adds those flags of AddFlags that are about a command alone, and
// fill env and workdir.
func AddProcessFlags(fs *pflag.FlagSet, env *[]string, workdir *string, lookup func(string) (string, bool)) {
	fs.VarP(&envValue{env: env, lookup: lookup}, "env", "e",
		"set `KEY=VALUE` in the container, or pass KEY on from the environment (repeatable)")
	fs.Var(&envFileValue{env: env, lookup: lookup}, "env-file", "set what lines of `FILE` say, as -e does (repeatable)")
	fs.StringVarP(workdir, "workdir", "w", "", "`DIR` the command starts in (default: the container's, or /)")
}

// addRootFlags are those of the file system.
func addRootFlags(fs *pflag.FlagSet, c *Config, volumes string) {
	fs.BoolVar(&c.Root.ReadOnly, "read-only", false, "make the root read-only, but for /run, /tmp and /var/tmp in memory")
	fs.VarP(&volumeValue{mounts: &c.Mounts, volumes: volumes}, "volume", "v",
		"show `SOURCE:DIR[:OPTIONS]`, a path or a volume's name; ro, O (a layer that is thrown away), U (owned by root), z, rslave, bind, noexec (repeatable)")
	fs.Var(&mountValue{mounts: &c.Mounts, volumes: volumes}, "mount", "mount `type=bind|volume|tmpfs,src=,dst=,ro,...` (repeatable)")
	fs.Var(&tmpfsValue{&c.Mounts}, "tmpfs", "mount an empty directory in memory at `DIR[:OPTIONS]`, such as size=64m (repeatable)")
	fs.Var((*sizeValue)(&c.ShmSize), "shm-size", "`SIZE` of /dev/shm (default 64m)")
	fs.Var(&deviceValue{&c.Devices}, "device", "show the host's device `PATH[:PATH][:r]` (repeatable)")
}

// addRightsFlags are those of what the command may do.
func addRightsFlags(fs *pflag.FlagSet, c *Config, f *Flags) {
	fs.Var(&f.UserNS, "userns", "`MODE` of ids: host (0 is you), keep-id[:uid=N,gid=N], auto[:size=N], nomap, or single")
	fs.Var(&capValue{&c.CapAdd}, "cap-add", "add a `CAPABILITY`, or ALL (repeatable)")
	fs.Var(&capValue{&c.CapDrop}, "cap-drop", "drop a `CAPABILITY`, or ALL (repeatable)")
	fs.BoolVar(&c.Privileged, "privileged", false, "give all capabilities, filter and hide nothing; on the host that is still no more than you have")
	fs.Var(&securityValue{c}, "security-opt", "`OPTION`: no-new-privileges[=false], seccomp=FILE|unconfined, mask=PATH[:PATH], unmask=ALL|PATH[:PATH] (repeatable)")
	fs.Var(&sysctlValue{&c.Sysctls}, "sysctl", "set `NAME=VALUE`, a kernel parameter of the container's namespaces (repeatable)")
	fs.StringVar(&c.Runtime, "runtime", "", "run the container by `PROGRAM`, an OCI runtime such as crun, in place of slipway itself")
}

// addLimitFlags are those of resources.
func addLimitFlags(fs *pflag.FlagSet, c *Config) {
	fs.Var(&ulimitValue{&c.Rlimits}, "ulimit", "limit a resource by `NAME=SOFT[:HARD]`, such as nofile=1024:2048 (repeatable)")
	fs.VarP((*sizeValue)(&c.Limits.Memory), "memory", "m", "`SIZE` of memory that the container may use")
	fs.Float64Var(&c.Limits.CPUs, "cpus", 0, "`NUMBER` of processors whose time the container may use")
	fs.Int64Var(&c.Limits.Pids, "pids-limit", 0, "`NUMBER` of processes and threads")
	fs.IntVar(&c.OOMScoreAdj, "oom-score-adj", 0, "`NUMBER` up to 1000: how soon the kernel kills the container when memory runs out")
}
