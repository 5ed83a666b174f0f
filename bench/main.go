// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// The first argument of a process that the bench started itself; see doc.go.
const (
	stageUser     = "stage:user"     // a plain user's process, which makes the stage
	stageTopology = "stage:topology" // the stage
	stageEndpoint = "stage:endpoint" // an endpoint
	stageIDMap    = "stage:idmap"    // newuidmap or newgidmap; see idtools.go
	stageUnpack   = "stage:unpack"   // gets and unpacks an archive; see load_pull.go
	stagePodman   = "stage:podman"   // has Podman get and unpack one; see podman.go
	stageLaunch   = "stage:launch"   // runs container engines; see launch_stage.go
	stageTrace    = "stage:trace"    // has strace count what one costs; see launch_trace.go
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if userns.IsStage(args) {
		return fail(stderr, runWithIDs(args, stdout))
	}
	if len(args) > 1 {
		if strings.HasPrefix(args[1], "stage:") {
			// A front that was killed must not take the stage with it by SIGPIPE. Caught,
			// not ignored, since children would inherit the latter.
			signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
		}
		var err error
		switch args[1] {
		case stageUser:
			err = becomeStage(ctx, stdout)
		case stageTopology:
			err = runStage(ctx, stdin, stdout)
		case stageLaunch:
			err = runLaunchStage(ctx, args[2:], stdin, stdout)
		case stageTrace:
			err = runTrace(ctx, strings.Join(args[2:], " "), stdout)
		case stageEndpoint:
			err = runEndpoint(stdin, stdout)
		case stageUnpack:
			err = runUnpack(strings.Join(args[2:], " "), stdout)
		case stagePodman:
			err = runPodman(strings.Join(args[2:], " "), stdout)
		case stageIDMap:
			err = mapIDs(args[2:])
		default:
			return runCommand(ctx, args, stdout, stderr)
		}
		return fail(stderr, err)
	}
	return runCommand(ctx, args, stdout, stderr)
}

func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := ParseOptions(args[1:], stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return exitUsage
	}
	if o.List {
		for _, c := range o.Plan.cases() {
			fmt.Fprintln(stdout, c.Name())
		}
		return 0
	}
	if o.From != "" {
		return fail(stderr, showResults(o, stdout))
	}
	if o.Readme != "" {
		return fail(stderr, updateReadme(".", o.Readme))
	}
	if o.Plan.Soak > 0 {
		return fail(stderr, runSoak(ctx, o, stdout))
	}
	return fail(stderr, runFront(ctx, o, args, stdout, stderr))
}

func fail(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "bench:", err)
	return exitFailure
}

// becomeStage starts the stage in a new user namespace and waits for it. The namespace
// maps the user to itself, so that what runs in it without capabilities cannot tell it
// from the machine's own.
func becomeStage(ctx context.Context, stdout io.Writer) error {
	home := newPlace()
	cmd := exec.Command(selfExe, stageTopology)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGTERM, // not SIGKILL: the stage has helpers to end
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		// A user other than 0 keeps over an exec only what is ambient.
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE},
	}
	if err := home.start(cmd); err != nil {
		// To the front, as the stage would: it has the one line for the user.
		why := explainNamespaces(fmt.Errorf("make a user namespace: %w", err), readFile)
		return json.NewEncoder(stdout).Encode(event{Fatal: why.Error()})
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(unix.SIGTERM) })
	defer stop()
	err := cmd.Wait()
	home.close()
	return err
}
