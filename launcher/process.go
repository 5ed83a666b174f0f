// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// A process is a child of this one, and its pidfd. The zero process is none.
type process struct{ pid, fd int }

// openChild opens the child whose process id the payload is.
func openChild(payload []byte) (process, error) {
	if len(payload) != 4 {
		return process{}, errors.New("the init stage did not say what it has started")
	}
	pid := int(binary.LittleEndian.Uint32(payload))
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return process{}, fmt.Errorf("open the process in the container: %w", err)
	}
	if err := unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != nil {
		unix.Close(fd)
		return process{}, fmt.Errorf("wait for the process in the container: %w", err)
	}
	return process{pid, fd}, nil
}

// wait waits for its end, and returns its exit code, as shells have it.
func (p process) wait() int {
	p.await()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(p.pid, &ws, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return sandbox.ExitOurs
		case ws.Signaled():
			return sandbox.ExitSignal + int(ws.Signal())
		}
		return ws.ExitStatus()
	}
}

// await waits in the runtime's poller until the process has ended, where that can be done;
// wait4 waits for the rest.
func (p process) await() {
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // an error leaves it to wait4
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return n != 0 || err != nil && err != unix.EINTR
	})
}
