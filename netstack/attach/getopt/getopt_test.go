// SPDX-License-Identifier: Apache-2.0

package getopt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach/getopt"
)

// specs are options of every kind: with and without a value and a short form, with names
// of which one begins another (those of slirp4netns, which has them all).
func specs() []getopt.Spec {
	return []getopt.Spec{
		{Long: "configure", Short: 'c'},
		{Long: "exit-fd", Short: 'e', Value: true},
		{Long: "ready-fd", Short: 'r', Value: true},
		{Long: "mtu", Short: 'm', Value: true},
		{Long: "cidr", Value: true},
		{Long: "disable-host-loopback"},
		{Long: "no-host-loopback"},
		{Long: "netns-type", Value: true},
		{Long: "api-socket", Short: 'a', Value: true},
		{Long: "enable-ipv6", Short: '6'},
		{Long: "enable-sandbox"},
		{Long: "enable-seccomp"},
		{Long: "help", Short: 'h'},
		{Long: "outbound-addr", Value: true},
		{Long: "outbound-addr6", Value: true},
		{Long: "disable-dns"},
	}
}

// normal is what getopt(1) of util-linux writes for these arguments: options in full,
// each with its value, then "--" and the operands, all of them quoted.
func normal(args []string) (out string, err error) {
	var b strings.Builder
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	operands, err := getopt.Parse(args, specs(), getopt.Anywhere, func(s getopt.Spec, value string) error {
		b.WriteString(" --" + s.Long)
		if s.Value {
			b.WriteString(" " + quote(value))
		}
		return nil
	})
	b.WriteString(" --")
	for _, o := range operands {
		b.WriteString(" " + quote(o))
	}
	return b.String(), err
}

// theirs is the same from getopt(1), which is getopt_long(3); its short options are
// turned into their long ones.
func theirs(t *testing.T, args []string) (out, complaint string) {
	t.Helper()
	var long []string
	short := ""
	for _, s := range specs() {
		colon := map[bool]string{true: ":"}[s.Value]
		long = append(long, s.Long+colon)
		if s.Short != 0 {
			short += string(s.Short) + colon
		}
	}
	argv := append([]string{"-n", "x", "-o", short, "-l", strings.Join(long, ","), "--"}, args...)
	cmd := exec.Command("getopt", argv...)
	cmd.Env = []string{"LC_ALL=C"}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && stderr.Len() == 0 {
		t.Fatal(err)
	}
	complaint, _, _ = strings.Cut(stderr.String(), "\n")
	return strings.TrimSuffix(stdout.String(), "\n"), strings.TrimPrefix(complaint, "x: ")
}

// TestParseAsC compares random command lines with what the C library makes of them.
func TestParseAsC(t *testing.T) {
	if _, err := exec.LookPath("getopt"); err != nil {
		t.Skip(err)
	}
	words := []string{
		"-c", "-6", "-m", "-m1500", "-cm9", "-c6r", "-r3", "-e", "-z", "-cz", "-", "--", "-c-", "-a", "-h6",
		"--mtu", "--mtu=1", "--mt=2", "--m", "--conf", "--c", "--configure=1", "--enable-s", "--enable-sa", "--no", "--n",
		"--outbound-addr", "--outbound-addr=x=y", "--outbound-addr6=", "--cidr=", "--=", "--=x", "--disable-d", "--bogus", "--bogus=1",
		"1234", "tap0", "a b", "it's", "", "/proc/1/ns/net",
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	good := 0
	for range 600 {
		args := make([]string, rnd.IntN(6))
		for i := range args {
			args[i] = words[rnd.IntN(len(words))]
		}
		got, err := normal(args)
		want, complaint := theirs(t, args)
		if complaint != "" {
			if err == nil || err.Error() != complaint {
				t.Errorf("%q: error %v, want %q", args, err, complaint)
			}
			continue
		}
		good++
		for _, s := range specs() {
			if s.Short != 0 {
				want = strings.ReplaceAll(want, fmt.Sprintf(" -%c ", s.Short), " --"+s.Long+" ")
				want = strings.ReplaceAll(want, fmt.Sprintf(" -%c ", s.Short), " --"+s.Long+" ") // one after the other
			}
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: error %v (-want +got):\n%s", args, err, diff)
		}
	}
	if good < 50 {
		t.Errorf("only %d command lines were good: this proves little", good)
	}
}

// FuzzParse reads again what was read, in full, and wants the same.
func FuzzParse(f *testing.F) {
	f.Add("-cm1500\x00--api-socket=x\x00tap0\x00--\x00-c")
	f.Add("--e\x00--outbound\x00-z\x00-\x00")
	f.Fuzz(func(t *testing.T, line string) {
		type option struct{ long, value string }
		var options []option
		operands, err := getopt.Parse(strings.Split(line, "\x00"), specs(), getopt.Anywhere, func(s getopt.Spec, value string) error {
			options = append(options, option{s.Long, value})
			return nil
		})
		if err != nil {
			return
		}
		var again []string
		for _, o := range options {
			again = append(again, "--"+o.long)
			i := slices.IndexFunc(specs(), func(s getopt.Spec) bool { return s.Long == o.long })
			if specs()[i].Value {
				again = append(again, o.value)
			}
		}
		again = append(append(again, "--"), operands...)
		i := 0
		rest, err := getopt.Parse(again, specs(), getopt.Anywhere, func(s getopt.Spec, value string) error {
			if i == len(options) || options[i] != (option{s.Long, value}) {
				t.Errorf("option %d is %s %q, want one of %q", i, s.Long, value, options)
			}
			i++
			return nil
		})
		if err != nil || i != len(options) || cmp.Diff(operands, rest) != "" {
			t.Errorf("%q: %d options, operands %q, error %v, want %d and %q", again, i, rest, err, len(options), operands)
		}
	})
}

// TestParseInFront ends the options at the first operand, whatever follows it.
func TestParseInFront(t *testing.T) {
	for _, tt := range []struct{ args, options, operands []string }{
		{args: []string{"-c", "sh", "-c", "true"}, options: []string{"configure="}, operands: []string{"sh", "-c", "true"}},
		{args: []string{"--mtu", "sh", "-", "--mtu"}, options: []string{"mtu=sh"}, operands: []string{"-", "--mtu"}},
		{args: []string{"-c", "--", "-c"}, options: []string{"configure="}, operands: []string{"-c"}},
		{args: []string{"-cm9"}, options: []string{"configure=", "mtu=9"}},
	} {
		var options []string
		operands, err := getopt.Parse(tt.args, specs(), getopt.InFront, func(s getopt.Spec, value string) error {
			options = append(options, s.Long+"="+value)
			return nil
		})
		if err != nil || !slices.Equal(options, tt.options) || !slices.Equal(operands, tt.operands) {
			t.Errorf("%q: options %q, operands %q, error %v, want %q and %q", tt.args, options, operands, err, tt.options, tt.operands)
		}
	}
}

// TestParseRefusedByCaller hands the caller's error on as it is, and reads no further.
func TestParseRefusedByCaller(t *testing.T) {
	refusal := errors.New("not this one")
	for _, args := range [][]string{{"-cc"}, {"--configure", "-c"}} {
		calls := 0
		_, err := getopt.Parse(args, specs(), getopt.Anywhere, func(getopt.Spec, string) error {
			calls++
			return refusal
		})
		if err != refusal || calls != 1 {
			t.Errorf("%q: error %v after %d options, want %v after one", args, err, calls, refusal)
		}
	}
	if _, err := getopt.Parse([]string{"-z"}, specs(), getopt.Anywhere, nil); err == nil {
		t.Error("an unknown option was taken")
	} else if _, ok := errors.AsType[*getopt.Error](err); !ok {
		t.Errorf("an unknown option: a %T, want an Error", err)
	}
}
