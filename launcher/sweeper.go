// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/join"
	"github.com/slipway-net/slipway/launcher/sandbox"
)

// A Sweeper is a process that waits to remove what a container has written, as root of
// the container's ids. It is for a supervisor that confines itself: to become somebody
// with these ids takes a set-user-ID program, and to enter a user namespace a system call
// that a filter forbids. When the supervisor ends, so does the process, and removes nothing.
type Sweeper struct {
	ctl   *sandbox.Control
	ended chan struct{} // closed when the process has ended
	err   error         // of its end; after that
}

// NewSweeper starts the process, to empty the directories dirs, of which there are a few
// at most. userNS is the container's user namespace, and stays the caller's. The caller
// calls Close, and perhaps Sweep before.
func NewSweeper(userNS *os.File, dirs []string) (*Sweeper, error) {
	ours, theirs, err := sandbox.NewControls()
	if err != nil {
		return nil, err
	}
	s := &Sweeper{ctl: ours, ended: make(chan struct{})}
	begun := make(chan error)
	go func() {
		runtime.LockOSThread() // with which it would be killed
		defer runtime.UnlockOSThread()
		child, err := startSweeper(userNS, dirs, theirs)
		theirs.Close()
		begun <- err
		if err == nil {
			s.err = waitSweeper(child)
			close(s.ended)
		}
	}()
	if err := <-begun; err != nil {
		ours.Close()
		return nil, fmt.Errorf("start what removes the container's files: %w", err)
	}
	o := sandbox.Order{Process: sandbox.Process{Args: []string{sandbox.ModeSweep}, Files: uint32(len(dirs))}}
	if err := sandbox.WriteFrame(ours, sandbox.FrameOrder, o.Encode()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// startSweeper starts it in the user namespace.
func startSweeper(userNS *os.File, dirs []string, ctl *sandbox.Control) (int, error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, name := range append([]string{os.DevNull}, dirs...) {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		files = append(files, f)
	}
	exe, err := openStage()
	if err != nil {
		return 0, err
	}
	defer exe.Close()
	null := int(files[0].Fd())
	fds := []int{null, null, null, ctl.FD()}
	for _, f := range files[1:] {
		fds = append(fds, int(f.Fd()))
	}
	return join.Start(join.Config{
		Join: []join.Namespaces{{FD: int(userNS.Fd()), Flags: unix.CLONE_NEWUSER}}, Exe: int(exe.Fd()),
		Args: []string{sandbox.InitArg, sandbox.ModeSweep}, Env: stageEnv(), Files: fds,
	})
}

func waitSweeper(pid int) error {
	ws, err := join.Wait(pid)
	if err == nil && (!ws.Exited() || ws.ExitStatus() != 0) {
		err = errors.New("what removes the container's files was ended")
	}
	return err
}

// Sweep empties the directories, and returns when that is done.
func (s *Sweeper) Sweep() error {
	defer s.ctl.Close()
	werr := sandbox.WriteFrame(s.ctl, sandbox.FrameGo, nil)
	kind, payload, rerr := sandbox.ReadFrame(s.ctl)
	<-s.ended
	if rerr == nil && kind == sandbox.FrameFailure {
		return sandbox.DecodeFailure(payload)
	}
	return errors.Join(werr, s.err)
}

// Close ends the process.
func (s *Sweeper) Close() {
	s.ctl.Close()
	<-s.ended
}
