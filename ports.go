// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/portfwd/client"
	"github.com/slipway-net/slipway/portfwd/portapi"
	"github.com/spf13/pflag"
)

const (
	portsSynopsis = "ports [flags] CONTAINER|SOCKET [ls | add RULE... | rm ID|RULE...]"
	portsAbout    = `Lists the published ports of CONTAINER, or of the ` + "`slipway attach`" + ` whose --api is
SOCKET, publishes more, or withdraws some: all that are named, or none. A RULE is
[IP:]HOST:CONTAINER[/tcp|/udp]; slipway-ports(1) tells what else one may say.`
)

// portsFlags are the flags of `slipway ports`.
type portsFlags struct {
	json bool
	cut  bool
}

func (f *portsFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.json, "json", false, "print JSON")
	fs.BoolVar(&f.cut, "cut", false, "with rm, cut the connections that came by the ports, too")
}

// runPorts is `slipway ports`.
func runPorts(args []string, stdout, stderr io.Writer) int {
	var f portsFlags
	fs := newFlagSet("ports")
	f.add(fs)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			usage(stdout, fs, portsSynopsis, portsAbout)
			return exitOK
		}
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	if fs.NArg() == 0 {
		return report(stderr, fmt.Errorf("%w: want a SOCKET, as in: slipway %s", errUsage, portsSynopsis))
	}
	verb, words := "ls", fs.Args()[1:]
	if len(words) > 0 {
		verb, words = words[0], words[1:]
	}
	socket, err := apiSocket(fs.Arg(0))
	if err != nil {
		return report(stderr, err)
	}
	return report(stderr, f.run(client.Dial(socket), verb, words, stdout))
}

// run does what the verb says.
func (f *portsFlags) run(c *client.Client, verb string, words []string, stdout io.Writer) error {
	switch {
	case verb != "ls" && verb != "add" && verb != "rm":
		return fmt.Errorf("%w: unknown word %q: want ls, add or rm", errUsage, verb)
	case verb == "ls" && len(words) > 0:
		return fmt.Errorf("%w: ls takes no argument, got %q", errUsage, words[0])
	case verb == "add" && len(words) == 0:
		return fmt.Errorf("%w: add what? Give a RULE such as 8080:80/tcp", errUsage)
	case verb == "rm" && len(words) == 0:
		return fmt.Errorf("%w: remove what? Give the ID of a port, or the RULE it was published by", errUsage)
	case f.cut && verb != "rm":
		return fmt.Errorf("%w: --cut is for rm only", errUsage)
	}
	ctx := context.Background()
	var ports []portapi.Port
	var err error
	switch verb {
	case "ls":
		ports, err = c.Ports(ctx)
	case "add":
		if err = checkRules(words); err == nil {
			ports, err = c.Publish(ctx, words)
			err = nameHolder(err)
		}
	default:
		return f.remove(ctx, c, words)
	}
	if err != nil {
		return err
	}
	return f.show(stdout, ports)
}

// nameHolder adds to an error who has the port, where the helper in its sandbox could not
// see that and we can.
func nameHolder(err error) error {
	refused, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err
	}
	if who := portfwd.Holder(refused.Socket); who != "" {
		return fmt.Errorf("%w; it is %s", err, who)
	}
	return err
}

// remove withdraws the ports that the words name, by an ID or by a rule.
func (f *portsFlags) remove(ctx context.Context, c *client.Client, words []string) error {
	var ids []int
	var rules []string
	for _, w := range words {
		if strings.Contains(w, ":") {
			rules = append(rules, w)
			continue
		}
		id, err := strconv.Atoi(w)
		if err != nil || id < 1 {
			return fmt.Errorf("%w: %q: want the ID of a port, or the RULE it was published by", errUsage, w)
		}
		ids = append(ids, id)
	}
	if err := checkRules(rules); err != nil {
		return err
	}
	return c.Withdraw(ctx, ids, rules, f.cut)
}

// checkRules returns the error of the first rule that is none.
func checkRules(rules []string) error {
	for _, r := range rules {
		if _, err := portfwd.ParseRule(r); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	return nil
}

func (f *portsFlags) show(w io.Writer, ports []portapi.Port) error {
	if f.json {
		return json.NewEncoder(w).Encode(ports)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tPROTO\tHOST\tCONTAINER\tOPTIONS")
	for _, p := range ports {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", p.ID, p.Proto, p.Host, p.Container, portOptions(p.Spec))
	}
	return t.Flush()
}

// portOptions tells what is special about a port.
func portOptions(s portapi.Spec) string {
	var words []string
	if s.Interface != "" {
		words = append(words, "interface="+s.Interface)
	}
	if s.Loopback {
		words = append(words, "loopback")
	}
	if s.Defer {
		words = append(words, "defer")
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ",")
}
