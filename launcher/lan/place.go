// SPDX-License-Identifier: Apache-2.0

package lan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SwitchArg is the argv[0] under which a binary is a switch; see IsSwitch.
const SwitchArg = "slipway-lan"

// Files of networks: the socket in each one's directory, and the lock beside them.
const (
	socketFile = "sock"
	lockFile   = "lock"
)

// modePrivate is the access mode of a network's directory.
const modePrivate = 0o700

// backlog is how many members may wait to be let in.
const backlog = MaxMembers

// inheritedSocket is the switch's descriptor of its listening socket.
const inheritedSocket = 3

// lockPatience is how long others may hold the lock: who does starts a process at most.
const lockPatience = 10 * time.Second

// lockRetry is how long to wait before the lock is tried again.
const lockRetry = 2 * time.Millisecond

// IsSwitch reports whether args, the process' own, say that it is to be a switch.
func IsSwitch(args []string) bool { return len(args) > 0 && args[0] == SwitchArg }

// SwitchConfig returns what a switch that Join has started was told, for New.
func SwitchConfig(args []string) (Config, error) {
	if len(args) != 2 {
		return Config{}, fmt.Errorf("%s: want the directory of a network", SwitchArg)
	}
	return Config{Dir: args[1], Listener: inheritedSocket}, nil
}

// Files returns the files that a Switch of the network in dir removes at its end. It
// opens none after New.
func Files(dir string) []string {
	return []string{filepath.Join(dir, socketFile), filepath.Join(dir, subnetFile)}
}

// start starts a switch for the network in dir, with the listener, and leaves it to
// itself. It outlives its parent.
func start(dir string, listener int) error {
	f := os.NewFile(uintptr(listener), socketFile)
	defer f.Close()
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", dir)
	cmd.Args[0] = SwitchArg
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = []string{"GODEBUG=containermaxprocs=0"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the switch: %w", err)
	}
	go cmd.Wait() // while we are its parent
	return nil
}

// connect returns a connection to the switch of the network in dir, which it starts
// where there is none.
func connect(dir string, launch func(dir string, listener int) error) (int, error) {
	if err := makeDir(dir); err != nil {
		return -1, err
	}
	unlock, err := lock(filepath.Dir(dir))
	if err != nil {
		return -1, err
	}
	defer unlock()
	fd, err := dial(dir)
	if err == nil {
		return fd, nil
	}
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) {
		return -1, err
	}
	if _, err := chooseSubnets(dir); err != nil {
		return -1, fmt.Errorf("choose the network's addresses: %w", err)
	}
	l, err := listen(dir)
	if err != nil {
		return -1, err
	}
	if err := launch(dir, l); err != nil {
		return -1, err
	}
	return dial(dir)
}

// makeDir makes the network's directory, which must be ours alone.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, modePrivate); err != nil {
		return fmt.Errorf("make the network's directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s: want a directory of ours that nobody else can enter: remove it", dir)
	}
	return nil
}

// lock takes the lock of all networks in the directory. Those who have it wait for
// nobody.
func lock(dir string) (unlock func(), err error) {
	fd, err := openLock(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockRetry) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err == unix.EINTR || err == unix.EWOULDBLOCK && time.Now().Before(end) {
			continue
		}
		unix.Close(fd)
		return nil, fmt.Errorf("lock the networks: %w", err)
	}
}

func openLock(dir string) (int, error) {
	fd, err := unix.Open(filepath.Join(dir, lockFile), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return -1, fmt.Errorf("open the lock of the networks: %w", err)
	}
	return fd, nil
}

// dial connects to the switch. Its listener takes us in at once or is gone.
func dial(dir string) (int, error) {
	fd, err := socket()
	if err != nil {
		return -1, err
	}
	if err := at(dir, func(sa unix.Sockaddr) error { return unix.Connect(fd, sa) }); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect to the switch: %w", err)
	}
	return fd, nil
}

// listen makes the socket of a switch, in place of one that nobody listens on.
func listen(dir string) (int, error) {
	if err := unix.Unlink(filepath.Join(dir, socketFile)); err != nil && err != unix.ENOENT {
		return -1, fmt.Errorf("remove the socket of an ended switch: %w", err)
	}
	fd, err := socket()
	if err != nil {
		return -1, err
	}
	err = at(dir, func(sa unix.Sockaddr) error { return unix.Bind(fd, sa) })
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make the switch's socket in %s: %w", dir, err)
	}
	return fd, nil
}

func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// Room for the longest message; the kernel takes less where its limit is lower.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*maxMessage)
	return fd, nil
}

// at calls f with the address of the socket in dir, whose path may be longer than an
// address can be (unix(7)).
func at(dir string, f func(unix.Sockaddr) error) error {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	return f(&unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(d) + "/" + socketFile})
}
