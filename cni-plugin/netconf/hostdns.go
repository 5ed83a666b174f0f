// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/types"
)

// resolvConf says how the host looks for names (resolv.conf(5)).
const resolvConf = "/etc/resolv.conf"

// Bounds on what is taken of it: what is read (bytes), how many words of a kind, which
// end up in each container's file, and how long a name is (bytes; RFC 1035, 2.3.4).
const (
	maxResolvConf = 64 << 10
	maxWords      = 32
	maxDomain     = 253
)

// HostDNS returns the search domains and options of the host's resolv.conf, if the
// configuration asks for them. What the configuration or the runtime says stays in force:
// domains go behind those, and an option of theirs is not said again. Without a
// resolv.conf there are none.
func (c *Conf) HostDNS() (types.DNS, error) {
	if !c.HostSearch {
		return types.DNS{}, nil
	}
	// Without O_NONBLOCK a FIFO would be waited for.
	f, err := os.OpenFile(resolvConf, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return types.DNS{}, nil
	}
	if err != nil {
		return types.DNS{}, fmt.Errorf("look for the host's search domains: %w", err)
	}
	defer f.Close()
	return c.without(readSearch(io.LimitReader(f, maxResolvConf))), nil
}

// without leaves out the host's options that the configuration has, by their names.
func (c *Conf) without(host types.DNS) types.DNS {
	name := func(option string) string {
		n, _, _ := strings.Cut(option, ":")
		return n
	}
	host.Options = slices.DeleteFunc(host.Options, func(o string) bool {
		return slices.ContainsFunc(c.DNS.Options, func(have string) bool { return name(have) == name(o) })
	})
	return host
}

// readSearch reads search domains and options. Of several lines with domains the last
// one counts, as it does for glibc; options add up. A name that is none is left out, and
// so is the root, ".", by which a host says that it searches nowhere.
func readSearch(r io.Reader) types.DNS {
	var d types.DNS
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxResolvConf)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "search":
			d.Search = keep(nil, f[1:], isDomain)
		case "domain":
			d.Search = keep(nil, f[1:2], isDomain)
		case "options":
			d.Options = keep(d.Options, f[1:], isOption)
		}
	}
	return d
}

// keep appends the words that are good and not there yet, up to maxWords.
func keep(to, words []string, good func(string) bool) []string {
	for _, w := range words {
		if len(to) < maxWords && good(w) && !slices.Contains(to, w) {
			to = append(to, w)
		}
	}
	return to
}

// isDomain reports whether s may be written to another resolv.conf as a domain: letters,
// digits, -, _ and dots between them, with one at the end if need be.
func isDomain(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxDomain || strings.HasPrefix(s, ".") || strings.Contains(s, "..") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !isWord(r) && r != '.' })
}

// isOption reports whether s is an option such as ndots:2.
func isOption(s string) bool {
	return len(s) <= maxDomain && !strings.ContainsFunc(s, func(r rune) bool { return !isWord(r) && r != ':' })
}

func isWord(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}
