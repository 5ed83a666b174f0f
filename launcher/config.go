// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
)

// ErrUsage is what errors.Is finds in an error that the user's words caused, such
// as an unknown network mode or a missing command.
var ErrUsage = errors.New("usage")

// NetMode says which network the container has. The zero NetMode is NetPrivate.
type NetMode string

// The network modes, as --net takes them.
const (
	NetPrivate NetMode = "private" // a namespace of its own, carried by Config.Session
	NetNone    NetMode = "none"    // a namespace of its own with nothing but lo
	NetHost    NetMode = "host"    // the caller's namespace
)

// maxHostname is the longest hostname in bytes (__NEW_UTS_LEN in
// include/uapi/linux/utsname.h).
const maxHostname = 64

// A Network carries the container's traffic. The launcher calls Run once, in a
// goroutine of its own, and Close once after Run has returned.
type Network interface {
	// Run carries traffic until ctx is done, and then returns nil. It may return
	// an error earlier; the container is then killed.
	Run(ctx context.Context) error
	// Close frees what the network holds.
	Close() error
}

// Config says what to run and how. It is copied by New.
type Config struct {
	// Args is the command and its arguments. A command without a slash is looked
	// for in the container's PATH.
	Args []string
	// Env holds KEY=VALUE words, which replace or add to the container's default
	// environment; the last of several wins.
	Env []string
	// Workdir is the absolute directory the command starts in; empty is "/".
	Workdir string
	// Hostname is the container's name; empty is a random one.
	Hostname string
	// Net is the network mode; empty is NetPrivate.
	Net NetMode
	// TTY gives the command a terminal on all three streams even where the
	// caller's are none. Without it each stream that is a terminal is replaced by
	// the container's if Stdin is one.
	TTY bool
	// Stdin, Stdout and Stderr are the command's streams; they stay the caller's
	// to close. Nil is /dev/null.
	Stdin, Stdout, Stderr *os.File

	// Session sets up the network in the namespaces of the process pid. It is
	// needed by NetPrivate alone. The command starts after it has returned.
	Session func(pid int) (Network, error)
	// Started is called, on the goroutine of Run, once the command has been
	// executed; pid is that of the container's first process. It may be nil.
	Started func(pid int)
	// DNS, Search and ContainerAddrs go into resolv.conf and hosts; they are used
	// by NetPrivate alone.
	DNS            []netip.Addr
	Search         []string
	ContainerAddrs []netip.Addr

	// Log receives what the user need not act on; nil discards it.
	Log *slog.Logger
}

// check fills in the zero values and says what of c cannot be.
func (c *Config) check() error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return fmt.Errorf("%w: no command: give one after --, as in: slipway run -- sh", ErrUsage)
	}
	if c.Net == "" {
		c.Net = NetPrivate
	}
	switch c.Net {
	case NetPrivate, NetNone, NetHost:
	default:
		return fmt.Errorf("%w: network mode %q: want private, none or host", ErrUsage, string(c.Net))
	}
	if c.Net == NetPrivate && c.Session == nil {
		return errors.New("network mode private: no session to carry it")
	}
	if c.Workdir == "" {
		c.Workdir = "/"
	}
	if !strings.HasPrefix(c.Workdir, "/") {
		return fmt.Errorf("%w: working directory %q: want an absolute path", ErrUsage, c.Workdir)
	}
	if c.Hostname == "" {
		c.Hostname = randomName()
	}
	if err := checkHostname(c.Hostname); err != nil {
		return err
	}
	for _, w := range append(append([]string{c.Workdir}, c.Args...), c.Env...) {
		if strings.ContainsRune(w, 0) {
			return fmt.Errorf("%w: %q has a NUL byte", ErrUsage, w)
		}
	}
	for _, e := range c.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return fmt.Errorf("%w: environment %q: want KEY=VALUE", ErrUsage, e)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// checkHostname takes labels of letters, digits, hyphens and underscores joined
// by dots (RFC 1123 §2.1, and the underscore that other runtimes allow): what is
// safe to write into hosts(5).
func checkHostname(name string) error {
	if len(name) > maxHostname {
		return fmt.Errorf("%w: hostname %q: longer than %d bytes", ErrUsage, name, maxHostname)
	}
	for label := range strings.SplitSeq(name, ".") {
		ok := label != "" && !strings.HasPrefix(label, "-") && !strings.HasSuffix(label, "-")
		for _, r := range label {
			ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}
		if !ok {
			return fmt.Errorf("%w: hostname %q: want letters, digits, hyphens and dots", ErrUsage, name)
		}
	}
	return nil
}
