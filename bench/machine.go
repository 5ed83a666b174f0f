// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// A Machine is what the numbers were measured on.
type Machine struct {
	Kernel  string            `json:"kernel"`
	CPU     string            `json:"cpu"`
	Cores   int               `json:"cores"`   // on which this process may run
	Allowed string            `json:"allowed"` // the same as a list; nothing is pinned within it
	Memory  string            `json:"memory"`
	OS      string            `json:"os"`
	Go      string            `json:"go"`
	Build   string            `json:"build"` // version control revision of the bench
	Load    []string          `json:"load"`  // load averages before and after the run
	Sysctls map[string]string `json:"sysctls"`
}

// describeMachine collects the facts. What cannot be read stays empty.
func describeMachine() Machine {
	m := Machine{
		Cores: runtime.NumCPU(), Go: runtime.Version(),
		CPU:     field("/proc/cpuinfo", "model name"),
		Memory:  field("/proc/meminfo", "MemTotal"),
		Allowed: field("/proc/self/status", "Cpus_allowed_list"),
		OS:      strings.Trim(strings.TrimPrefix(line("/etc/os-release", "PRETTY_NAME="), "PRETTY_NAME="), `"`),
		Load:    []string{loadAverage()},
		Sysctls: map[string]string{},
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if strings.HasPrefix(s.Key, "vcs.") {
				m.Build = strings.TrimSpace(m.Build + " " + strings.TrimPrefix(s.Key, "vcs.") + "=" + s.Value)
			}
		}
	}
	for _, key := range []string{"net/core/rmem_max", "net/core/wmem_max", "net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"} {
		m.Sysctls[strings.ReplaceAll(key, "/", ".")] = strings.Join(strings.Fields(readFile(filepath.Join("/proc/sys", key))), " ")
	}
	return m
}

// loadAverage returns the load of the last minute.
func loadAverage() string {
	first, _, _ := strings.Cut(readFile("/proc/loadavg"), " ")
	return first
}

// field returns the value of the first "key: value" line of a file in /proc.
func field(path, key string) string {
	_, value, _ := strings.Cut(line(path, key), ":")
	return strings.TrimSpace(value)
}

func line(path, prefix string) string {
	for l := range strings.Lines(readFile(path)) {
		if strings.HasPrefix(l, prefix) {
			return strings.TrimSpace(l)
		}
	}
	return ""
}

func readFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}
