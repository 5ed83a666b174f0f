// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// maxEnvFile bounds the file of --env-file in bytes.
const maxEnvFile = 1 << 20

// envValue is the value of -e.
type envValue struct {
	env    *[]string
	lookup func(string) (string, bool)
}

// Set takes KEY=VALUE, or KEY, which is left out where lookup does not know it.
func (v *envValue) Set(s string) error {
	key, _, ok := strings.Cut(s, "=")
	if key == "" {
		return fmt.Errorf("want KEY=VALUE or KEY")
	}
	if !ok {
		val, found := v.lookup(key)
		if !found {
			return nil
		}
		s = key + "=" + val
	}
	*v.env = append(*v.env, s)
	return nil
}

// Type names the value's kind to pflag.
func (*envValue) Type() string { return "env" }

// String is empty: -e has no default to show.
func (*envValue) String() string { return "" }

// envFileValue is the value of --env-file.
type envFileValue envValue

// Set takes the name of a file with a word as -e has it on each line; empty lines and
// those that begin with # are passed over.
func (v *envFileValue) Set(name string) error {
	b, err := readLimited(name, maxEnvFile)
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := (*envValue)(v).Set(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

// Type names the value's kind to pflag.
func (*envFileValue) Type() string { return "file" }

// String is empty: there is no default to show.
func (*envFileValue) String() string { return "" }

// netValue is the value of --net.
type netValue NetMode

// Set takes the name of a network mode.
func (v *netValue) Set(s string) error {
	switch m := NetMode(s); m {
	case NetPrivate, NetNone, NetHost:
		*v = netValue(m)
		return nil
	}
	for _, prefix := range []string{JoinContainer, JoinCNI} {
		if name, ok := strings.CutPrefix(s, prefix); ok && name != "" {
			*v = netValue(s)
			return nil
		}
	}
	if strings.HasPrefix(s, "/") {
		*v = netValue(s)
		return nil
	}
	return fmt.Errorf("want private, none, host, %sNAME, %sNAME or the path of a namespace", JoinContainer, JoinCNI)
}

// Type names the value's kind to pflag.
func (*netValue) Type() string { return "mode" }

// String is the mode, private being the default.
func (v *netValue) String() string {
	if *v == "" {
		return string(NetPrivate)
	}
	return string(*v)
}

// initValue is the value of --init.
type initValue struct{ init **bool }

// Set takes a boolean.
func (v *initValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("want true or false")
	}
	*v.init = &b
	return nil
}

// Type names the value's kind to pflag.
func (*initValue) Type() string { return "bool" }

// String is empty: the default depends on the root.
func (*initValue) String() string { return "" }

// sizeValue is a number of bytes.
type sizeValue int64

// Set takes a number with or without a unit, b, k, m or g, of 1024.
func (v *sizeValue) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 {
		return errors.New("want a size such as 64m")
	}
	*v = sizeValue(n)
	return nil
}

// Type names the value's kind to pflag.
func (*sizeValue) Type() string { return "size" }

// String is empty: the default is in the flag's text.
func (*sizeValue) String() string { return "" }

// capValue is the value of --cap-add and --cap-drop.
type capValue struct{ caps *[]string }

// Set takes names as ParseCapability does, with commas between them.
func (v *capValue) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		name, err := ParseCapability(word)
		if err != nil {
			return err
		}
		*v.caps = append(*v.caps, name)
	}
	return nil
}

// Type names the value's kind to pflag.
func (*capValue) Type() string { return "capability" }

// String is empty: there is no default to show.
func (*capValue) String() string { return "" }

// ulimitValue is the value of --ulimit.
type ulimitValue struct{ limits *[]Rlimit }

// Set takes NAME=SOFT[:HARD], -1 being no limit.
func (v *ulimitValue) Set(s string) error {
	name, _, _ := strings.Cut(s, "=")
	if _, ok := rlimits()[strings.ToUpper(name)]; !ok {
		return fmt.Errorf("resource %q: see getrlimit(2) for their names, as in nofile=1024", name)
	}
	u, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	*v.limits = append(*v.limits, Rlimit{Name: u.Name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	return nil
}

// Type names the value's kind to pflag.
func (*ulimitValue) Type() string { return "limit" }

// String is empty: there is no default to show.
func (*ulimitValue) String() string { return "" }

// sysctlValue is the value of --sysctl.
type sysctlValue struct{ sysctls *map[string]string }

// Set takes NAME=VALUE.
func (v *sysctlValue) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("want NAME=VALUE, such as net.ipv4.ip_forward=1")
	}
	if *v.sysctls == nil {
		*v.sysctls = make(map[string]string)
	}
	(*v.sysctls)[name] = value
	return nil
}

// Type names the value's kind to pflag.
func (*sysctlValue) Type() string { return "sysctl" }

// String is empty: there is no default to show.
func (*sysctlValue) String() string { return "" }
