// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sys/unix"
)

// InitArg is the argv[0] under which a binary is the init stage of a container.
const InitArg = "slipway-init"

// The init stage's second word, which says what it is started for.
const (
	ModeRun = "run" // make a container and run its command
	// ModeSeal is ModeRun of a binary that the container's root could change. A third word
	// is the number of the command's descriptors, for none of which it is needed.
	ModeSeal    = "seal"
	ModeExec    = "exec"    // run one more command in a container that it has joined
	ModeCopy    = "copy"    // carry files into or out of a container that it has joined
	ModeStill   = "still"   // make a container and carry files into or out of it
	ModeSweep   = "sweep"   // wait, and then remove what a container has written
	ModeRuntime = "runtime" // make a root and have an OCI runtime do the rest
	ModeProbe   = "probe"   // find out whether a container's root can be made
)

// ControlFD is the descriptor at which the init stage finds the control socket.
const ControlFD = 3

// MaxFiles bounds the descriptors that a command is given besides its streams. Service
// managers give a handful of sockets; who starts a process has room for this many.
const MaxFiles = 64

// IsInit reports whether a process with these arguments (os.Args) is an init
// stage and must call Init at once.
func IsInit(args []string) bool { return len(args) > 1 && args[0] == InitArg }

// Init is the main function of an init stage, which args (os.Args) start; it
// returns the process's exit code. It must be called on the main goroutine before
// the process does anything else, and by nobody but main. copier is what ModeCopy
// and ModeStill need; nil is for a binary that is not started for them.
func Init(args []string, copier Copier) int {
	runtime.LockOSThread() // capabilities, ids and the session keyring belong to a thread
	// What the caller left open and inheritable must not reach the command.
	if err := unix.CloseRange(ControlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return ExitOurs
	}
	if args[1] == ModeProbe {
		return probeMain()
	}
	ctl := &Control{fd: ControlFD, passed: -1}
	main := initMain
	switch args[1] {
	case ModeSeal:
		main = func(ctl *Control) (int, error) { return sealMain(ctl, args[2:]) }
	case ModeExec:
		main = execMain
	case ModeCopy:
		main = func(ctl *Control) (int, error) { return copyMain(ctl, copier) }
	case ModeStill:
		main = func(ctl *Control) (int, error) { return stillMain(ctl, copier) }
	case ModeSweep:
		main = sweepMain
	case ModeRuntime:
		main = runtimeMain
	}
	code, err := main(ctl)
	if err == nil {
		return code
	}
	f := FailureOf(err)
	// If the supervisor is gone there is nobody to tell.
	_ = WriteFrame(ctl, FrameFailure, f.encode())
	return f.Code
}

// initMain makes the container, waits for the network, and runs the command.
func initMain(ctl *Control) (int, error) {
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	if err := makeContainer(o, ctl); err != nil {
		return 0, err
	}
	p, err := newPayload(&o.Process, ctl)
	if err != nil {
		return 0, err
	}
	if err := await(ctl, FrameGo); err != nil {
		return 0, fmt.Errorf("wait for the network: %w", err)
	}
	return p.run()
}

// execMain runs a command in a container that is there.
func execMain(ctl *Control) (int, error) {
	// This process has more rights than the container.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("make the init stage untraceable: %w", err)
	}
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	p, err := newPayload(&o.Process, ctl)
	if err != nil {
		return 0, err
	}
	return 0, p.send(firstFile + int(o.Process.Files))
}

// receiveOrder reads the first frame.
func receiveOrder(ctl *Control) (*Order, error) {
	kind, payload, err := ReadFrame(ctl)
	if err != nil {
		return nil, fmt.Errorf("receive the order: %w", err)
	}
	if kind != FrameOrder {
		return nil, fmt.Errorf("receive the order: unexpected frame %d", kind)
	}
	return Decode(payload)
}

// await reads the next frame, which has to be of the kind.
func await(ctl *Control, want FrameKind) error {
	kind, _, err := ReadFrame(ctl)
	if err != nil || kind != want {
		return errors.New("the supervisor went away")
	}
	return nil
}

// makeContainer does what the order says up to the command itself.
func makeContainer(o *Order, ctl *Control) error {
	unix.Umask(0)
	s, err := newSetup(o, ctl)
	if err != nil {
		return err
	}
	defer s.close()
	if o.OwnNetwork {
		if err := LoopbackUp(); err != nil {
			return fmt.Errorf("set up lo: %w", err)
		}
	}
	if err := awaitMapping(o, ctl); err != nil {
		return err
	}
	// Whoever is root in the container must neither trace pid 1 nor open its binary,
	// which is the host's, through /proc/1/exe. Nobody is there before the ids are
	// mapped; and whoever maps them must be able to open uid_map, which newuidmap(1)
	// cannot for such a process if it is root of a user namespace alone.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make pid 1 untraceable: %w", err)
	}
	if err := s.run(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
		return fmt.Errorf("set hostname %q: %w", o.Hostname, err)
	}
	if o.Domainname == "" {
		return nil
	}
	if err := unix.Setdomainname([]byte(o.Domainname)); err != nil {
		return fmt.Errorf("set domain name %q: %w", o.Domainname, err)
	}
	return nil
}

// awaitMapping waits for the ids, where they are mapped later, and becomes root.
func awaitMapping(o *Order, ctl *Control) error {
	if !o.Mapped {
		return nil
	}
	if err := await(ctl, FrameMapped); err != nil {
		return fmt.Errorf("wait for the mapping of ids: %w", err)
	}
	// This thread alone: it is the one that will execute, and asking all others
	// takes half a millisecond.
	if err := become(identity{}); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the supervisor: %w", err)
	}
	return nil
}

// LoopbackUp sets lo of the thread's network namespace up (netdevice(7)), which gives it its addresses.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// watch obeys the supervisor's signals until it goes away, and then ends the
// container.
func watch(ctl *Control, signal func(unix.Signal)) {
	for {
		kind, payload, err := ReadFrame(ctl)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				signal(unix.SIGKILL)
			}
			unix.Exit(ExitSignal + int(unix.SIGKILL))
		}
		if kind == FrameSignal && len(payload) == 1 {
			signal(unix.Signal(payload[0]))
		}
	}
}
