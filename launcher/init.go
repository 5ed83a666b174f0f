// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// InitArg is the argv[0] under which a binary is the init stage of a container.
const InitArg = "slipway-init"

// The init stage's second word, which says what it is started for.
const (
	initRun   = "run"   // make a container and run its command
	initExec  = "exec"  // run one more command in a container that it has joined
	initProbe = "probe" // find out whether a container's root can be made
)

// controlFD is the descriptor at which the init stage finds the control socket.
const controlFD = 3

// IsInit reports whether a process with these arguments (os.Args) is an init
// stage and must call Init at once.
func IsInit(args []string) bool { return len(args) > 1 && args[0] == InitArg }

// Init is the main function of an init stage, which args (os.Args) start; it
// returns the process's exit code. It must be called on the main goroutine before
// the process does anything else, and by nobody but main.
func Init(args []string) int {
	runtime.LockOSThread() // capabilities and the session keyring belong to a thread
	// What the caller left open and inheritable must not reach the command.
	if err := unix.CloseRange(controlFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return exitOurs
	}
	if args[1] == initProbe {
		return probeMain()
	}
	ctl := &control{fd: controlFD, passed: -1}
	main := initMain
	if args[1] == initExec {
		main = execMain
	}
	code, err := main(ctl)
	if err == nil {
		return code
	}
	f := failureOf(err)
	if b, err := json.Marshal(f); err == nil {
		// If the supervisor is gone there is nobody to tell.
		_ = writeFrame(ctl, frameFailure, b)
	}
	return f.Code
}

// initMain makes the container, waits for the network, and runs the command.
func initMain(ctl *control) (int, error) {
	// Whoever is root in the container must neither trace pid 1 nor open its
	// binary, which is the host's, through /proc/1/exe.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("make pid 1 untraceable: %w", err)
	}
	if err := seal(); err != nil {
		return 0, err
	}
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	if err := makeContainer(o); err != nil {
		return 0, err
	}
	p, err := newPayload(o, ctl)
	if err != nil {
		return 0, err
	}
	kind, _, err := readFrame(ctl)
	if err != nil || kind != frameGo {
		return 0, errors.New("the supervisor went away before the network was up")
	}
	return p.run()
}

// execMain runs a command in a container that is there.
func execMain(ctl *control) (int, error) {
	// This process has more rights than the container until it runs the command.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("make the init stage untraceable: %w", err)
	}
	o, err := receiveOrder(ctl)
	if err != nil {
		return 0, err
	}
	p, err := newPayload(o, ctl)
	if err != nil {
		return 0, err
	}
	return p.run()
}

// receiveOrder reads the first frame.
func receiveOrder(ctl *control) (*order, error) {
	kind, payload, err := readFrame(ctl)
	if err != nil {
		return nil, fmt.Errorf("receive the spec: %w", err)
	}
	if kind != frameBundle {
		return nil, fmt.Errorf("receive the spec: unexpected frame %d", kind)
	}
	return decodeOrder(payload)
}

// makeContainer does what the spec says up to the command itself.
func makeContainer(o *order) error {
	unix.Umask(0)
	s, err := newSetup(o)
	if err != nil {
		return err
	}
	err = s.run()
	s.close()
	if err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(o.Spec.Hostname)); err != nil {
		return fmt.Errorf("set hostname %q: %w", o.Spec.Hostname, err)
	}
	if hasNamespace(o, specs.NetworkNamespace) {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("set up lo: %w", err)
		}
	}
	return nil
}

func hasNamespace(o *order, t specs.LinuxNamespaceType) bool {
	for _, n := range o.Spec.Linux.Namespaces {
		if n.Type == t {
			return true
		}
	}
	return false
}

// loopbackUp sets lo up (netdevice(7)), which gives it its addresses.
func loopbackUp() error {
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

// selfExe is this process's binary.
const selfExe = "/proc/self/exe"

// seal starts this binary again from a read-only mount of it if the caller could
// write it: a process of the container that is made to execute /proc/self/exe
// would have it within reach, and could put its own code into it for the next
// start (CVE-2019-5736). It returns only if that is not, or no longer, needed.
func seal() error {
	if unix.Access(selfExe, unix.W_OK) != nil {
		return nil
	}
	fd, err := openSelf()
	if err != nil {
		return fmt.Errorf("seal the binary: %w; to mend it: let root own it", err)
	}
	if fd < 0 {
		return nil
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	unix.Close(fd)
	if errors.Is(err, unix.ENOSYS) {
		return nil // before Linux 5.2: the untraceable pid 1 has to do
	}
	if err != nil {
		return fmt.Errorf("seal the binary: %w", err)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		unix.Close(tree)
		return fmt.Errorf("seal the binary: %w", err)
	}
	// The control socket is to survive.
	if _, err := unix.FcntlInt(controlFD, unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("seal the binary: %w", err)
	}
	return fmt.Errorf("seal the binary: %w", unix.Exec(fdPath(tree), []string{InitArg, initRun}, initEnv()))
}

// openSelf opens this binary by its name: /proc/self/exe itself leads into the
// supervisor's mount namespace, whose mounts cannot be cloned from here. -1 is a
// binary that has no name any more, which no later start can use.
func openSelf() (int, error) {
	name, err := os.Readlink(selfExe)
	if err != nil {
		return -1, err
	}
	var self, named unix.Stat_t
	if err := unix.Stat(selfExe, &self); err != nil {
		return -1, err
	}
	if self.Nlink == 0 {
		return -1, nil
	}
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	if err := unix.Fstat(fd, &named); err != nil || named.Dev != self.Dev || named.Ino != self.Ino {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is another file", name)
	}
	return fd, nil
}

// watch obeys the supervisor's signals until it goes away, and then ends the
// container.
func watch(ctl *control, signal func(unix.Signal)) {
	for {
		kind, payload, err := readFrame(ctl)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				signal(unix.SIGKILL)
			}
			unix.Exit(exitSignal + int(unix.SIGKILL))
		}
		if kind == frameSignal && len(payload) == 1 {
			signal(unix.Signal(payload[0]))
		}
	}
}
