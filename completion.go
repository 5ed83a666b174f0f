// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/launcher/state"
)

const (
	completionSynopsis = "completion bash|zsh|fish"
	completionAbout    = `Prints a script by which the shell completes commands, flags and the names of
containers: source <(slipway completion bash), or the same with zsh; with fish:
slipway completion fish | source`
)

// candidatesWord, in place of a shell, asks for candidates for the last of the words
// that follow: it is what the scripts do.
const candidatesWord = "candidates"

// The scripts ask the program itself, which knows best.
const (
	bashCompletion = `_slipway() {
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$(slipway completion candidates -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _slipway slipway
`
	zshCompletion = `#compdef slipway
_slipway() {
	local -a found
	found=("${(@f)$(slipway completion candidates -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n $found ]]; then compadd -a found; else _files; fi
}
compdef _slipway slipway
`
	fishCompletion = `function __slipway_candidates
	set -l words (commandline -opc) (commandline -ct)
	slipway completion candidates -- $words[2..-1] 2>/dev/null
end
complete -c slipway -a '(__slipway_candidates)'
`
)

// runCompletion is `slipway completion`.
func runCompletion(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("completion")
	fs.SetInterspersed(false)
	if code, over := parseFlags(fs, args, completionSynopsis, completionAbout, stdout, stderr); over {
		return code
	}
	scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	switch script, ok := scripts[fs.Arg(0)]; {
	case fs.Arg(0) == candidatesWord && fs.NArg() > 2:
		for _, c := range candidates(fs.Args()[2:]) {
			fmt.Fprintln(stdout, c)
		}
		return exitOK
	case !ok || fs.NArg() != 1:
		return report(stderr, fmt.Errorf("%w: want bash, zsh or fish", errUsage))
	default:
		_, err := io.WriteString(stdout, script)
		return report(stderr, err)
	}
}

// candidates lists what the last of the words behind "slipway" may be.
func candidates(words []string) []string {
	last := words[len(words)-1]
	var found []string
	switch {
	case len(words) == 1:
		for _, c := range commands() {
			found = append(found, c.name)
		}
	case strings.HasPrefix(last, "-"):
		found = flagsOf(words[0])
	default:
		found = containersFor(words[0])
	}
	return slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, last) })
}

// flagsOf reads a command's flags from its help.
func flagsOf(name string) []string {
	var help bytes.Buffer
	for _, c := range commands() {
		if c.name == name {
			c.run([]string{"--help"}, &help, io.Discard)
		}
	}
	var flags []string
	for line := range strings.Lines(help.String()) {
		for word := range strings.FieldsSeq(line) {
			// "  -f, --follow[=true|false]   go on …"
			if !strings.HasPrefix(word, "-") {
				break
			}
			word = strings.TrimSuffix(word, ",")
			word, _, _ = strings.Cut(word, "[")
			flags = append(flags, word)
		}
	}
	return flags
}

// containersFor lists the containers that a command can do something to.
func containersFor(name string) []string {
	var wanted func(state.Status) bool
	switch name {
	case "exec", "stop", "kill", "console", "port", "stats", "flows", "ports", "pcap":
		wanted = func(s state.Status) bool { return s == state.Running }
	case "start":
		wanted = func(s state.Status) bool { return s == state.Exited }
	case "logs", "rm", "wait", "inspect", "generate", "cp":
		wanted = func(state.Status) bool { return true }
	default:
		return nil
	}
	store, err := openStore()
	if err != nil {
		return nil
	}
	all, _ := store.List() // what cannot be read cannot be offered
	var names []string
	for _, c := range all {
		if wanted(c.Status) {
			names = append(names, c.DisplayName())
		}
	}
	return names
}
