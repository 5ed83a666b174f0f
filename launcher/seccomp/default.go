// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// generated is what go generate made: the tables of system calls, and the default
// profile's program for some sets of capabilities.
//
//go:embed tables/*.txt programs/*.bpf
var generated embed.FS

// ErrUnsupported is what errors.Is finds in an error of an architecture without a table.
var ErrUnsupported = errors.New("no seccomp filter for this architecture")

// Relevant are the capabilities on which the default profile depends, sorted.
func relevant() []string {
	return []string{
		"CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT",
		"CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
	}
}

// Classes are the sets of capabilities whose programs are made ahead: those of a
// container as it is mostly run, and of one that drops all. Generate uses them.
func Classes() [][]string { return [][]string{{"CAP_SYS_CHROOT"}, {}} }

// Default returns the default profile's program for a command with the capabilities
// named, such as "CAP_SYS_ADMIN", in its bounding set.
func Default(caps []string) ([]byte, error) {
	class := classOf(caps)
	if b, err := generated.ReadFile("programs/" + ProgramName(runtime.GOARCH, class)); err == nil {
		return b, nil
	}
	return CompileDefault(runtime.GOARCH, class, readGenerated)
}

// classOf are those of caps that matter, sorted.
func classOf(caps []string) []string {
	return slices.DeleteFunc(relevant(), func(c string) bool { return !slices.Contains(caps, c) })
}

// ProgramName is the name of the file with the program for an architecture of Go's and
// a class.
func ProgramName(arch string, class []string) string {
	return strings.ToLower(strings.Join(append([]string{arch}, class...), "-")) + ".bpf"
}

// readGenerated reads a table that is linked in.
func readGenerated(name string) (string, error) {
	b, err := generated.ReadFile("tables/" + name + ".txt")
	return string(b), err
}

// CompileDefault compiles the default profile for an architecture of Go's and the
// capabilities of a class; read returns the table of one by its name.
func CompileDefault(arch string, class []string, read func(name string) (string, error)) ([]byte, error) {
	tables, err := tablesOf(arch, read)
	if err != nil {
		return nil, err
	}
	p, err := expand(moby.DefaultProfile(), arch, class)
	if err != nil {
		return nil, err
	}
	return compile(p, tables)
}

// Compile compiles a profile in the JSON form of Docker and Podman for this machine and
// a command with the capabilities named. The error says what of it is not understood.
func Compile(profile []byte, caps []string) ([]byte, error) {
	tables, err := tablesOf(runtime.GOARCH, readGenerated)
	if err != nil {
		return nil, err
	}
	p, err := Expand(profile, caps)
	if err != nil {
		return nil, err
	}
	return compile(p, tables)
}

// Expand returns the rules of a profile in the JSON form of Docker and Podman, nil being
// the default one, that hold on this machine for a command with the capabilities named.
func Expand(profile []byte, caps []string) (*specs.LinuxSeccomp, error) {
	spec := specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
	var p *specs.LinuxSeccomp
	err := checkProfile(profile)
	switch {
	case profile == nil:
		p, err = moby.GetDefaultProfile(&spec)
	case err == nil:
		p, err = moby.LoadProfile(string(profile), &spec)
	}
	if err == nil && p == nil {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	return p, nil
}

// checkProfile refuses rules that are null, at which the profile's package would panic.
func checkProfile(profile []byte) error {
	if profile == nil {
		return nil
	}
	var p moby.Seccomp
	if err := json.Unmarshal(profile, &p); err != nil {
		return err
	}
	if slices.Contains(p.Syscalls, nil) {
		return errors.New("a rule is null")
	}
	return nil
}

// Tables are the names of the tables for an architecture of Go's: its own, and that of
// 32-bit programs which the same kernel runs.
func Tables(arch string) []string {
	switch arch {
	case "amd64":
		return []string{"x86_64", "i386"}
	case "arm64":
		return []string{"aarch64", "arm"}
	}
	return nil
}

func tablesOf(arch string, read func(string) (string, error)) ([]table, error) {
	names := Tables(arch)
	if names == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, arch)
	}
	var all []table
	for _, name := range names {
		text, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("read the table of system calls: %w", err)
		}
		t, err := parseTable(text)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// expand chooses those rules of a profile that hold for an architecture of Go's and a
// class. Every kernel with overlayfs in a user namespace is new enough for all of them.
func expand(p *moby.Seccomp, arch string, class []string) (*specs.LinuxSeccomp, error) {
	out := p.LinuxSeccomp
	out.Syscalls = nil
	for _, s := range p.Syscalls {
		if s.Excludes != nil && (slices.Contains(s.Excludes.Arches, arch) || overlap(s.Excludes.Caps, class)) {
			continue
		}
		if i := s.Includes; i != nil {
			if len(i.Arches) > 0 && !slices.Contains(i.Arches, arch) || !contains(class, i.Caps) {
				continue
			}
		}
		out.Syscalls = append(out.Syscalls, s.LinuxSyscall)
	}
	if len(out.Syscalls) == 0 {
		return nil, errors.New("the default seccomp profile is empty")
	}
	return &out, nil
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// contains reports whether all has every one of some.
func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
