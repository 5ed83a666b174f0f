// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/pasta"
	"golang.org/x/sys/unix"
)

// pastaCommandName is the argv[0] under which the program becomes the command that pasta
// runs, in namespaces of its own.
const pastaCommandName = "slipway-pasta-command"

// Exit codes of a command that cannot be run, as shells have them.
const (
	exitCannotRun = 126
	exitNotFound  = 127
)

// defaultShell is run where nothing else is named.
const defaultShell = "/bin/sh"

// pastaSpawn runs the command in new namespaces, and returns its exit code.
func pastaSpawn(o pasta.Options, stderr io.Writer) int {
	if o.Verbosity == pasta.Normal {
		o.Verbosity = pasta.Quiet // the terminal is the command's
	}
	h := pastaHelper{o: o, stderr: stderr, readyFD: -1}
	defer h.close()
	p, err := newProcess(-1, -1)
	if err != nil {
		return pastaError(stderr, err)
	}
	// The command dies with the thread that started it (PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := startCommand(o)
	if err != nil {
		return pastaError(stderr, err)
	}
	ctx, stop := watchSignals(syscall.SIGTERM, syscall.SIGQUIT)
	defer stop()
	// What the keyboard sends is for the command.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan int, 1)
	go func() {
		done <- c.wait()
		cancel()
	}()
	err = h.carry(ctx, p, c)
	c.end()
	code := <-done
	signal.Stop(interrupts)
	if sig := stop(); sig != 0 {
		return exitOK // as pasta, which ends then, and the command with it
	}
	if err != nil && !errors.Is(err, attach.ErrGone) {
		return pastaError(stderr, err)
	}
	return code
}

// A spawned command waits, in its namespaces, until it is let go.
type spawned struct {
	cmd  *exec.Cmd
	gate *os.File // closed without a byte, it ends
}

// startCommand makes the namespaces, with a process that will be the command.
func startCommand(o pasta.Options) (*spawned, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the command: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{pastaCommandName, hostnameFor(o)}, o.Command...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if !o.NetNSOnly {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("make namespaces for the command: %w", err)
	}
	return &spawned{cmd, w}, nil
}

// hostnameFor is the command's host name, which tells it apart from the host.
func hostnameFor(o pasta.Options) string {
	if o.Hostname != "" {
		return o.Hostname
	}
	name, err := os.Hostname()
	if err != nil {
		return pastaName
	}
	const most = 64 // bytes, __NEW_UTS_LEN of linux/utsname.h
	name = pastaName + "-" + name
	return name[:min(len(name), most)]
}

// release lets the command go. A nil command needs nobody.
func (s *spawned) release() error {
	if s == nil {
		return nil
	}
	defer s.gate.Close()
	if _, err := s.gate.Write([]byte{1}); err != nil {
		return fmt.Errorf("let the command go: %w", err)
	}
	return nil
}

// end ends what is left of it.
func (s *spawned) end() {
	_ = s.cmd.Process.Kill() // it may have ended
	s.gate.Close()
}

// wait returns the exit code, 128 and the signal's number for one that a signal ended.
func (s *spawned) wait() int {
	err := s.cmd.Wait()
	status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited || !ok {
		return exitError
	}
	if status.Signaled() {
		const bySignal = 128
		return bySignal + int(status.Signal())
	}
	return status.ExitStatus()
}

// pastaCommand becomes the command, when it is let go. args are the host name and the
// command's words.
func pastaCommand(args []string, stderr io.Writer) int {
	gate := os.NewFile(firstInherited, "gate")
	if n, err := gate.Read(make([]byte, 1)); err != nil || n != 1 || len(args) == 0 {
		return exitError // who started us has said why, or is gone
	}
	gate.Close()
	if err := furnish(args[0]); err != nil {
		return pastaError(stderr, err)
	}
	argv := args[1:]
	path := ""
	if len(argv) == 0 {
		path = cmp.Or(os.Getenv("SHELL"), defaultShell)
		argv = []string{"-sh"} // a login shell
	} else {
		var err error
		if path, err = exec.LookPath(argv[0]); err != nil {
			pastaError(stderr, err)
			return exitNotFound
		}
	}
	err := unix.Exec(path, argv, os.Environ())
	pastaError(stderr, fmt.Errorf("run %s: %w", path, err))
	if errors.Is(err, unix.ENOENT) {
		return exitNotFound
	}
	return exitCannotRun
}

// furnish makes the namespaces fit for a command: /proc is that of its own processes,
// and it may ping. What the host forbids is done without.
func furnish(hostname string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts from the host: %w", err)
	}
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 0"), 0)
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set the host name %q: %w", hostname, err)
	}
	return nil
}
