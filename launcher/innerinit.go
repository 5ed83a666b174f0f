// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/sandbox"
)

// errNotReady is the error of a container whose OCI runtime has not made it yet.
var errNotReady = errors.New("its OCI runtime has not started the command yet: try again")

// Inside makes PID and Pidfd, which are those of the process that the launcher started,
// those of the container's own first process. That is another one where an OCI runtime
// (Config.Runtime) has made the container, as its child and in namespaces below its own.
// After an error Pidfd is closed; errors.Is finds unix.ESRCH in that of a container that
// has ended.
func (e *Exec) Inside() error {
	o, err := sandbox.Decode(e.Order)
	if err == nil && len(o.Runtime) == 0 {
		return nil
	}
	runtime := e.Pidfd
	defer unix.Close(runtime)
	if err != nil {
		return err
	}
	parent := e.PID
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		return err
	}
	for _, file := range children {
		list, err := os.ReadFile(file)
		if err != nil { // the thread has ended
			continue
		}
		for word := range strings.FieldsSeq(string(list)) {
			if e.PID, err = strconv.Atoi(word); err != nil {
				return fmt.Errorf("read %s: %w", file, err)
			}
			if e.Pidfd, err = unix.PidfdOpen(e.PID, 0); err != nil {
				continue
			}
			// As long as the runtime has not ended it is the parent of what it started; so
			// the descriptor is the child's, and not that of a stranger with its number.
			if isInit(e.PID, parent) && unix.PidfdSendSignal(runtime, 0, nil, 0) == nil {
				return nil
			}
			unix.Close(e.Pidfd)
		}
	}
	if err := unix.PidfdSendSignal(runtime, 0, nil, 0); err != nil {
		return err
	}
	return errNotReady
}

// isInit reports whether a process is the first of its pid namespace, has that parent,
// and has executed a command (proc_pid_status(5)). Before, what runs is the runtime.
func isInit(pid, parent int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	var first, child bool
	for line := range bytes.Lines(status) {
		f := strings.Fields(string(line))
		switch {
		case len(f) == 0:
		case f[0] == "PPid:":
			child = f[len(f)-1] == strconv.Itoa(parent)
		case f[0] == "NSpid:":
			first = f[len(f)-1] == "1"
		}
	}
	return first && child && executed(pid, parent)
}

// executed reports whether a process runs another program than its parent.
func executed(pid, parent int) bool {
	var its, theirs unix.Stat_t
	err := errors.Join(unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &its), unix.Stat(fmt.Sprintf("/proc/%d/exe", parent), &theirs))
	return err == nil && (its.Dev != theirs.Dev || its.Ino != theirs.Ino)
}
