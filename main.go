// SPDX-License-Identifier: Apache-2.0

// Command slipway gives rootless containers a network, and starts them.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/lan"
	"github.com/slipway-net/slipway/launcher/supervise"
	"github.com/slipway-net/slipway/launcher/userns"
	"github.com/slipway-net/slipway/portfwd"
)

// Exit codes of every command; `slipway run` passes the container's on.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// version is set by the linker for a release.
var version = ""

// A command is what one first word of the command line stands for.
type command struct {
	name    string
	summary string
	run     func(args []string, stdout, stderr io.Writer) int
}

// commands are all of them, in the order of the help text.
func commands() []command {
	return []command{
		{"attach", "give the network namespace of a process, or at a path, a network", runAttach},
		{"slirp4netns", "the same with the command line of slirp4netns", runSlirp4netns},
		{"pasta", "the same with the command line of pasta", runPasta},
		{"run", "run a command in a container", runRun},
		{"ps", "list containers", runPs},
		{"start", "start containers that have ended again", runStart},
		{"exec", "run one more command in a container", runExec},
		{"console", "join the terminal to a detached container", runConsole},
		{"logs", "print what a detached container has written", runLogs},
		{"stop", "ask containers to end, and kill those that do not", runStop},
		{"kill", "send containers a signal", runKill},
		{"wait", "wait for the end of containers", runWait},
		{"rm", "remove containers", runRm},
		{"inspect", "print all that is known of containers", runInspect},
		{"port", "print where the ports of a container are published", runPort},
		{"cp", "copy files out of a container, or into it", runCp},
		{"stats", "show what containers use", runStats},
		{"generate", "print a unit of systemd for a container", runGenerate},
		{"pull", "bring an image from a registry, or from an archive", runPull},
		{"images", "list the images that are here", runImages},
		{"tag", "give an image another name", runTag},
		{"rmi", "remove images", runRmi},
		{"load", "bring the images of an archive", runLoad},
		{"save", "write images to an archive", runSave},
		{"volume", "list, make and remove volumes with a name", runVolume},
		{"gc", "remove what no image and no container uses", runGC},
		{"flows", "list the flows of a container or of a running `slipway attach`", runFlows},
		{"ports", "list, publish and withdraw ports of the same", runPorts},
		{"pcap", "capture the frames of the same", runPcap},
		{"doctor", "tell what this machine allows, and how to mend what it does not", runDoctor},
		{"completion", "print a script by which a shell completes command lines", runCompletion},
		{"version", "print the version", runVersion},
	}
}

func main() {
	if launcher.IsInit(os.Args) {
		os.Exit(launcher.Init(os.Args))
	}
	if userns.IsStage(os.Args) {
		os.Exit(stageMain(os.Args, os.Stdout, os.Stderr))
	}
	if supervise.IsDetached(os.Args) {
		os.Exit(superviseDetached(os.Args[1:]))
	}
	if lan.IsSwitch(os.Args) {
		os.Exit(lanSwitchMain(os.Args, os.Stderr))
	}
	if filepath.Base(os.Args[0]) == slirp4netnsName {
		os.Exit(slirp4netnsMain(os.Args[0], os.Args[1:], os.Stdout, os.Stderr))
	}
	switch {
	case os.Args[0] == pastaDaemonName:
		os.Exit(pastaDaemon(os.Args[1:]))
	case os.Args[0] == pastaCommandName:
		os.Exit(pastaCommand(os.Args[1:], os.Stderr))
	case filepath.Base(os.Args[0]) == pastaName:
		os.Exit(pastaMain(os.Args[0], os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs the command that the first word names and returns the exit code.
func dispatch(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		help(stderr)
		return exitUsage
	}
	switch args[0] {
	case "-h", "--help", "help":
		if len(args) > 1 && args[0] == "help" {
			return dispatch([]string{args[1], "--help"}, stdout, stderr)
		}
		help(stdout)
		return exitOK
	case "--version":
		return runVersion(nil, stdout, stderr)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(args[1:], stdout, stderr)
		}
	}
	return report(stderr, fmt.Errorf("%w: unknown command %q: see slipway --help", errUsage, args[0]))
}

func help(w io.Writer) {
	fmt.Fprint(w, "Usage: slipway COMMAND [ARGUMENTS]\n\nNetworking for rootless containers.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-11s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\n`slipway COMMAND --help` tells more of each.\n")
}

// report writes an error as one line, or several joined ones as one each, and returns
// the exit code it stands for.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	complain(stderr, err)
	if isUsage(err) {
		return exitUsage
	}
	return exitError
}

// complain writes an error. Its text may be a registry's, an image's or a container's,
// which are not to reach the terminal with what controls that.
func complain(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "slipway: %s\n", printable(strings.TrimSuffix(line, "\n")))
	}
}

// isUsage reports whether the user's words caused the error. A rule may be found wrong
// as late as when its ports are published, by an address that is none of the plan's.
func isUsage(err error) bool {
	return errors.Is(err, errUsage) || errors.Is(err, launcher.ErrUsage) || errors.Is(err, portfwd.ErrRule)
}

// runVersion is `slipway version`.
func runVersion(_ []string, stdout, _ io.Writer) int {
	fmt.Fprintf(stdout, "slipway %s\n", versionText())
	return exitOK
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unreleased)"
}
