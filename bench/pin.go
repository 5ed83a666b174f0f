// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The kinds of process that can be tied to CPUs. On the direct path the endpoint of
// the container runs in "host", as the same kind.
const (
	kindPeer      = "peer"
	kindContainer = "container"
	kindHelper    = "helper"
)

// maxCPU bounds a CPU's number: what a unix.CPUSet holds.
const maxCPU = 1023

// Pins tie kinds of process to CPUs. A kind that is not named runs where the
// scheduler puts it, which is what users have; the zero Pins name none.
type Pins map[string][]int

// String implements flag.Value.
func (p *Pins) String() string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(*p)) {
		// A comma separates kinds, so CPUs are joined by a plus, which Set reads, too.
		all = append(all, kind+"="+strings.ReplaceAll(cpuList((*p)[kind]), ",", "+"))
	}
	return strings.Join(all, ",")
}

// Set implements flag.Value: KIND=CPUS,…, in which CPUS is a number, a range or
// several of them joined by "+".
func (p *Pins) Set(s string) error {
	pins := Pins{}
	for _, item := range splitList(s) {
		kind, list, _ := strings.Cut(item, "=")
		if !slices.Contains([]string{kindPeer, kindContainer, kindHelper}, kind) {
			return fmt.Errorf("%q: want peer=CPUS, container=CPUS or helper=CPUS", item)
		}
		if _, twice := pins[kind]; twice {
			return fmt.Errorf("%q: there twice: join CPUs with +, as in %s=0+2", kind, kind)
		}
		cpus, err := parseCPUs(strings.ReplaceAll(list, "+", ","))
		if err != nil {
			return fmt.Errorf("%q: %w", item, err)
		}
		pins[kind] = cpus
	}
	if len(pins) == 0 {
		return fmt.Errorf("%q names no CPU", s)
	}
	*p = pins
	return nil
}

// check returns an error where a kind is tied to a CPU on which this process may
// not run itself.
func (p Pins) check(allowed string) error {
	may, err := parseCPUs(allowed)
	if err != nil {
		return nil // the machine does not say; the kernel will
	}
	for _, kind := range slices.Sorted(maps.Keys(p)) {
		for _, cpu := range p[kind] {
			if !slices.Contains(may, cpu) {
				return fmt.Errorf("-pin %s=%d: this machine lets the bench use the CPUs %s", kind, cpu, allowed)
			}
		}
	}
	return nil
}

// shared says which kinds are tied to a CPU that another kind is tied to as well; it
// is empty where none is.
func (p Pins) shared() string {
	var all []string
	for _, pair := range [...][2]string{{kindPeer, kindContainer}, {kindPeer, kindHelper}, {kindContainer, kindHelper}} {
		var both []int
		for _, cpu := range p[pair[0]] {
			if slices.Contains(p[pair[1]], cpu) {
				both = append(both, cpu)
			}
		}
		if len(both) > 0 {
			all = append(all, fmt.Sprintf("%s and %s share CPU %s", pair[0], pair[1], cpuList(both)))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "by -pin, " + strings.Join(all, "; ")
}

// parseCPUs reads a list as the kernel writes it: "0-2,5" (cpuset(7), "Formats").
func parseCPUs(s string) ([]int, error) {
	var cpus []int
	for item := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(item, "-")
		if !ranged {
			last = first
		}
		from, err := parseCPU(first)
		if err != nil {
			return nil, err
		}
		to, err := parseCPU(last)
		if err != nil {
			return nil, err
		}
		if to < from {
			return nil, fmt.Errorf("the range %q of CPUs runs backwards", item)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus), nil
}

func parseCPU(s string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	if err != nil || n > maxCPU {
		return 0, fmt.Errorf("%q is no CPU: want a number of up to %d", s, maxCPU)
	}
	return int(n), nil
}

// cpuList writes sorted CPUs as the kernel does.
func cpuList(cpus []int) string {
	var all []string
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		text := strconv.Itoa(cpus[i])
		if j > i {
			text += "-" + strconv.Itoa(cpus[j])
		}
		all = append(all, text)
		i = j + 1
	}
	return strings.Join(all, ",")
}

// on returns the same place, from which processes start tied to the CPUs; none
// means wherever the place itself may run. It is closed with p.
func (p *place) on(cpus []int) *place {
	if len(cpus) == 0 {
		return p
	}
	set := new(unix.CPUSet)
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return &place{work: p.work, cpus: set}
}

// startTied starts what f starts with the affinity of the place. It must run on the
// place's thread, from which a child inherits it (sched_setaffinity(2)).
func (p *place) startTied(f func() error) error {
	if p.cpus == nil {
		return f()
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read CPU affinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, p.cpus); err != nil {
		return fmt.Errorf("set CPU affinity: %w", err)
	}
	err := f()
	if backErr := unix.SchedSetaffinity(0, &before); backErr != nil && err == nil {
		err = fmt.Errorf("restore CPU affinity: %w", backErr)
	}
	return err
}

// allowedCPUs returns the list of CPUs on which the process may run, or nothing.
func allowedCPUs(pid int) string {
	return field(fmt.Sprintf("/proc/%d/status", pid), "Cpus_allowed_list")
}

// cpus returns where the kinds of process of the bout run.
func (b *bout) cpus() map[string]string {
	all := map[string]string{}
	if b.peer != nil {
		all[kindPeer] = allowedCPUs(b.peer.pid)
	}
	if b.container != nil {
		all[kindContainer] = allowedCPUs(b.container.pid)
	}
	if b.helper != nil {
		all[kindHelper] = allowedCPUs(b.helper.pid)
	}
	maps.DeleteFunc(all, func(_, list string) bool { return list == "" })
	return all
}
