// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-net/slipway/launcher/state"
	"golang.org/x/sys/unix"
)

const (
	generateSynopsis = "generate [flags] systemd CONTAINER"
	generateAbout    = `Prints a unit by which systemd starts what CONTAINER was started with, looks after
it and starts it again when it fails. As a unit of your own it goes into
~/.config/systemd/user/NAME.service; then:
systemctl --user daemon-reload && systemctl --user enable --now NAME
(and loginctl enable-linger, for it to run while you are not logged in).`
)

// runGenerate is `slipway generate`.
func runGenerate(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("generate")
	policy := fs.String("restart-policy", "on-failure", "`WHEN` systemd is to start it again: no, on-failure, always, ... (systemd.service(5), Restart=)")
	if code, over := parseFlags(fs, args, generateSynopsis, generateAbout, stdout, stderr); over {
		return code
	}
	if fs.NArg() != 2 || fs.Arg(0) != "systemd" {
		return report(stderr, fmt.Errorf("%w: want the word systemd and a container, as in: slipway %s", errUsage, generateSynopsis))
	}
	if strings.ContainsFunc(*policy, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') }) {
		return report(stderr, fmt.Errorf("%w: --restart-policy %q: want a word such as on-failure", errUsage, *policy))
	}
	_, c, err := findContainer(fs.Arg(1))
	if err != nil {
		return report(stderr, err)
	}
	exe, err := os.Executable()
	if err != nil {
		return report(stderr, fmt.Errorf("find our own binary: %w", err))
	}
	_, err = io.WriteString(stdout, unit(c, exe, *policy))
	return report(stderr, err)
}

// unit is the text of a unit for the container. It runs in the foreground, so that
// systemd sees the supervisor itself, which tells when the command runs.
func unit(c *state.Container, exe, policy string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `[Unit]
Description=Slipway container %s
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
WorkingDirectory=%s
`, unitWord(c.DisplayName()), strings.ReplaceAll(c.Run.Dir, "%", "%%"))
	for _, k := range slices.Sorted(maps.Keys(c.Run.Env)) {
		fmt.Fprintf(&b, "Environment=%s\n", unitWord(k+"="+c.Run.Env[k]))
	}
	words := append([]string{exe, "run", "--foreground", "--replace"}, c.Run.Args...)
	for i, w := range words {
		words[i] = unitWord(strings.ReplaceAll(w, "$", "$$"))
	}
	fmt.Fprintf(&b, `ExecStart=%s
Restart=%s
KillMode=mixed
KillSignal=%s
SuccessExitStatus=%d
Delegate=yes

[Install]
WantedBy=default.target
`, strings.Join(words, " "), policy, signalWord(c.StopSignal), exitSignal+c.StopSignal)
	return b.String()
}

// signalWord is a signal as systemd reads it: by its name, or by its number if it has none.
func signalWord(sig int) string { return cmp.Or(unix.SignalName(unix.Signal(sig)), strconv.Itoa(sig)) }

// exitSignal plus the number of a signal is the exit code of a command that the
// signal has ended.
const exitSignal = 128

// unitWord writes a word as systemd reads it in a unit (systemd.syntax(7), "Quoting",
// and systemd.unit(5), "Specifiers").
func unitWord(s string) string {
	plain := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-=:,@+", r)
	})
	if plain {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%':
			b.WriteString("%%")
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
