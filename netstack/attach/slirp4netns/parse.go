// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/netstack/attach/getopt"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// Exclusive bound of --mtu in bytes: a tap takes 65521 (tap.MaxMTU).
const mtuBound = 65522

// errDone ends the reading of options at one that asks for help or the version.
var errDone = errors.New("no more is to be read")

// Parse reads the arguments of a command line, without the program's own name, which
// goes into messages as name. The error is an *Error.
//
// As slirp4netns it looks whether the paths of namespaces exist.
func Parse(name string, args []string) (Options, error) {
	o := Options{
		ExitFD: -1, ReadyFD: -1, TapFD: -1, MTU: DefaultMTU, CIDR: tap.DefaultCIDR4,
		netnsType: typePID, targetType: typeNetNS,
	}
	given := map[string]bool{}
	operands, err := getopt.Parse(args, specs(), getopt.Anywhere, func(s getopt.Spec, value string) error {
		given[s.Long] = true
		return o.set(s.Long, value)
	})
	if bad, ok := errors.AsType[*getopt.Error](err); ok {
		return o, usagef("%s: %s", name, bad.Error())
	}
	if errors.Is(err, errDone) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	o.operands = operands
	if o.MAC != "" && !o.Configure {
		return o, usagef("--macaddr cannot be specified when --configure or -c is not specified")
	}
	switch o.targetType {
	case typeNetNS:
		return o, o.namespaceTarget()
	case typeBESS:
		return o, o.bessTarget(given)
	}
	return o, usagef(`--target-type must be either "netns" or "bess"`)
}

// set notes an option.
func (o *Options) set(long, value string) error {
	switch long {
	case "configure":
		o.Configure = true
	case "exit-fd":
		return o.descriptor(&o.ExitFD, long, value)
	case "ready-fd":
		return o.descriptor(&o.ReadyFD, long, value)
	case "mtu":
		n, ok := number(value)
		if !ok || n <= 0 || n >= mtuBound {
			return usagef("MTU must be a positive integer (< %d)", mtuBound)
		}
		o.MTU = n
	case "cidr":
		o.CIDR = value
	case "no-host-loopback":
		o.deprecated(long, "disable-host-loopback")
		fallthrough
	case "disable-host-loopback":
		o.NoHostLoopback = true
	case "netns-type":
		o.netnsType = value
	case "userns-path":
		if err := unix.Access(value, unix.F_OK); err != nil {
			return usagef("userns path doesn't exist: %s", value)
		}
		o.UserNS = value
	case "api-socket":
		o.APISocket = value
	case "help":
		o.Action = Help
		return errDone
	case "version":
		o.Action = Version
		return errDone
	default:
		o.setMore(long, value)
	}
	return nil
}

// setMore notes an option that takes any value.
func (o *Options) setMore(long, value string) {
	switch long {
	case "enable-ipv6":
		o.experimental("IPv6")
		o.IPv6 = true
	case "create-sandbox":
		o.deprecated(long, "enable-sandbox")
		fallthrough
	case "enable-sandbox":
		o.Sandbox = true
	case "enable-seccomp":
		o.experimental("seccomp")
		o.Seccomp = true
	case "outbound-addr":
		o.experimental("--" + long)
		o.Outbound4 = value
	case "outbound-addr6":
		o.experimental("--" + long)
		o.Outbound6 = value
	case "disable-dns":
		o.NoDNS = true
	case "macaddress":
		o.MAC = value
	case "target-type":
		o.targetType = value
	}
}

func (o *Options) experimental(what string) {
	o.warn("Support for %s is experimental", what)
}

func (o *Options) deprecated(old, now string) {
	o.warn("--%s is deprecated and will be removed in future releases, please use --%s instead.", old, now)
}

func (o *Options) warn(format string, args ...any) {
	o.Warnings = append(o.Warnings, "WARNING: "+fmt.Sprintf(format, args...))
}

func (o *Options) descriptor(to *int, long, value string) error {
	n, ok := number(value)
	if !ok || n < 0 {
		return usagef("%s must be a non-negative integer", long)
	}
	*to = n
	return nil
}

// namespaceTarget reads the operands PID|PATH|FD [TAPNAME].
func (o *Options) namespaceTarget() error {
	want := 2
	if o.netnsType == typeTapFD {
		want = 1
	}
	if len(o.operands) < want {
		return usagef("")
	}
	if len(o.operands) > 2 {
		o.warn("too many arguments")
	}
	target := o.operands[0]
	if len(o.operands) > 1 {
		o.TapName = o.operands[1]
	}
	n, ok := number(target)
	switch o.netnsType {
	case typePID:
		if !ok || n <= 0 {
			return usagef("PID must be a positive integer")
		}
		o.PID = n
	case typeTapFD:
		if !ok || n < 0 {
			return usagef("TAPFD must a file descriptor")
		}
		o.TapFD = n
	default: // whatever it is called
		if err := unix.Access(target, unix.F_OK); err != nil {
			return usagef("existing path expected when --netns-type=path: %s", strerror(err))
		}
		o.NetNS = target
	}
	return nil
}

// bessTarget reads the operand PATH.
func (o *Options) bessTarget(given map[string]bool) error {
	if len(o.operands) == 0 {
		return usagef("")
	}
	if len(o.operands) > 1 {
		return usagef("too many arguments")
	}
	for _, long := range []string{"configure", "netns-type", "userns-path"} {
		if given[long] {
			return usagef("--%s conflicts with --target-type=bess", long)
		}
	}
	o.warn("BESS mode is experimental")
	o.BESS = o.operands[0]
	return nil
}

// number reads a decimal integer as strtol(3) does, with blanks before it and a
// sign; nothing at all is 0. Beyond 32 bits there is none.
func number(s string) (int, bool) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err == nil
}

// strerror is strerror(3): it begins with a capital letter.
func strerror(err error) string {
	s := err.Error()
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
