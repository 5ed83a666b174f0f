// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Machine is what the numbers were measured on.
type Machine struct {
	Kernel  string `json:"kernel"`
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`   // on which this process may run
	Allowed string `json:"allowed"` // the same as a list
	// Affinity is where each kind of process ran: CPUs by peer, container and helper.
	Affinity map[string]string `json:"affinity,omitempty"`
	// Governor is how the CPUs' frequency is chosen, Hypervisor what the machine runs
	// on; empty where the kernel does not say.
	Governor   string            `json:"governor,omitempty"`
	Hypervisor string            `json:"hypervisor,omitempty"`
	Memory     string            `json:"memory"`
	OS         string            `json:"os"`
	Go         string            `json:"go"`
	Build      string            `json:"build"` // version control revision of the bench
	Load       []string          `json:"load"`  // load averages before and after the run
	Sysctls    map[string]string `json:"sysctls"`
	// Warnings say, one sentence each, what about the machine makes numbers doubtful.
	Warnings []string `json:"warnings,omitempty"`
}

// busyShare is the load average per core from which on the machine is too busy with
// something else to measure on.
const busyShare = 0.25

// kindsAtOnce is how many processes are busy in one step: one of each kind.
const kindsAtOnce = 3

// describeMachine collects the facts. What cannot be read stays empty.
func describeMachine() Machine {
	m := Machine{
		Cores: runtime.NumCPU(), Go: runtime.Version(),
		CPU:        field("/proc/cpuinfo", "model name"),
		Memory:     field("/proc/meminfo", "MemTotal"),
		Governor:   strings.TrimSpace(readFile("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
		Hypervisor: hypervisor(),
		Allowed:    field("/proc/self/status", "Cpus_allowed_list"),
		OS:         strings.Trim(strings.TrimPrefix(line("/etc/os-release", "PRETTY_NAME="), "PRETTY_NAME="), `"`),
		Load:       []string{loadAverage()},
		Sysctls:    map[string]string{},
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

// hypervisor names what the machine runs on, as far as it shows.
func hypervisor() string {
	if name := strings.TrimSpace(readFile("/sys/hypervisor/type")); name != "" {
		return name
	}
	if !slices.Contains(strings.Fields(field("/proc/cpuinfo", "flags")), "hypervisor") {
		return ""
	}
	vendor := strings.TrimSpace(readFile("/sys/class/dmi/id/sys_vendor"))
	product := strings.TrimSpace(readFile("/sys/class/dmi/id/product_name"))
	if name := strings.TrimSpace(vendor + " " + product); name != "" {
		return name
	}
	return "unnamed"
}

// warnings returns what about the machine makes the numbers of a run doubtful.
func (m Machine) warnings(p Plan) []string {
	var all []string
	switch {
	case p.Launch != nil:
	case m.Cores < 2:
		all = append(all, fmt.Sprintf("one core (CPU %s): the peer's endpoint, the container's endpoint and the helper share it, so throughput says how the three divide it", m.Allowed))
	case m.Cores < kindsAtOnce:
		all = append(all, fmt.Sprintf("%d cores for %d kinds of process (peer, container, helper): they share them; compare subjects of one run only", m.Cores, kindsAtOnce))
	}
	if shared := p.Pin.shared(); shared != "" {
		all = append(all, shared)
	}
	if len(m.Load) > 0 {
		load, err := strconv.ParseFloat(m.Load[0], 64)
		if limit := busyShare * float64(max(m.Cores, 1)); err == nil && load > limit {
			all = append(all, fmt.Sprintf("the machine was busy at the start: load average %s, above %.2f: end what else runs and measure again", m.Load[0], limit))
		}
	}
	return all
}

// note keeps where the processes of one step ran.
func (m *Machine) note(cpus map[string]string) {
	for kind, list := range cpus {
		if m.Affinity == nil {
			m.Affinity = map[string]string{}
		}
		if known := m.Affinity[kind]; !slices.Contains(strings.Split(known, " or "), list) {
			m.Affinity[kind] = strings.TrimPrefix(known+" or "+list, " or ")
		}
	}
}

// placement says in one line where the kinds of process ran.
func (m Machine) placement(pins Pins) string {
	var all []string
	for _, kind := range []string{kindPeer, kindContainer, kindHelper} {
		list := m.Affinity[kind]
		if list == "" {
			continue
		}
		how := "anywhere in "
		if len(pins[kind]) > 0 {
			how = "tied to "
		}
		all = append(all, kind+" "+how+list)
	}
	about := cmp.Or(strings.Join(all, ", "), "nothing ran")
	if m.Governor != "" {
		about += "; governor " + m.Governor
	}
	if m.Hypervisor != "" {
		about += "; hypervisor " + m.Hypervisor
	}
	return about
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
