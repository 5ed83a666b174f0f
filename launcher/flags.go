// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// AddFlags adds the launcher's flags to fs, which fill c when fs is parsed.
// Parsing stops at the first word that is no flag. lookup is where -e KEY finds a
// value, normally os.LookupEnv.
func AddFlags(fs *pflag.FlagSet, c *Config, lookup func(string) (string, bool)) {
	fs.SetInterspersed(false)
	AddProcessFlags(fs, &c.Env, &c.Workdir, lookup)
	fs.StringVar(&c.Hostname, "hostname", "", "`NAME` of the container (default random)")
	fs.Var((*netValue)(&c.Net), "net", "`MODE` of the network: private, none or host")
	fs.BoolP("interactive", "i", false, "pass standard input on (in the foreground always so)")
	fs.BoolVarP(&c.TTY, "tty", "t", false, "give the command a terminal even where standard input is none")
}

// AddProcessFlags adds those flags of AddFlags that are about a command alone, and
// fill env and workdir.
func AddProcessFlags(fs *pflag.FlagSet, env *[]string, workdir *string, lookup func(string) (string, bool)) {
	fs.VarP(&envValue{env: env, lookup: lookup}, "env", "e",
		"set `KEY=VALUE` in the container, or pass KEY on from the environment (repeatable)")
	fs.StringVarP(workdir, "workdir", "w", "", "`DIR` the command starts in (default: the container's, or /)")
}

// Command returns the command that a parsed fs ends with: the words after "--".
// Its error is an ErrUsage.
func Command(fs *pflag.FlagSet) ([]string, error) {
	if n := fs.ArgsLenAtDash(); n != 0 && fs.NArg() > 0 {
		return nil, fmt.Errorf("%w: %q: put the command after --, as in: slipway run -- %s", ErrUsage, fs.Arg(0), strings.Join(fs.Args(), " "))
	}
	if fs.NArg() == 0 {
		return nil, fmt.Errorf("%w: no command: give one after --, as in: slipway run -- sh", ErrUsage)
	}
	return fs.Args(), nil
}

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

// netValue is the value of --net.
type netValue NetMode

// Set takes the name of a network mode.
func (v *netValue) Set(s string) error {
	switch m := NetMode(s); m {
	case NetPrivate, NetNone, NetHost:
		*v = netValue(m)
		return nil
	}
	return fmt.Errorf("want private, none or host")
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
