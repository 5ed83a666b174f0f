// SPDX-License-Identifier: Apache-2.0

package cninet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/join"
	"github.com/slipway-net/slipway/launcher/userns"
)

// patience bounds what plugins may take: one that hangs would hold the container, or its
// end, for good. DHCP, the slowest, gives up within it.
const patience = time.Minute

// descriptors of a stage that joins the user namespace, behind the standard streams.
const (
	barrierFD = 3
	netnsFD   = 4
)

// callNew has a stage in a new user namespace do the request. opened is called with
// the stage's process id before it ends.
func callNew(req *request, opened func(pid int, r reply) error) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// It dies with the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, theirIn, err := pipes()
	if err != nil {
		return reply{}, unbegun{err}
	}
	defer in.close()
	c := userns.Command(ctx, req.Mapping, StageName)
	c.Stdin, c.Stdout = theirIn.in, theirIn.out
	err = c.Start()
	theirIn.close()
	if err != nil {
		return reply{}, unbegun{err}
	}
	r, err := in.talk(req)
	if err == nil && r.Error == "" && opened != nil {
		err = opened(c.Process.Pid, r)
	}
	in.close()
	_ = c.Wait() // it has said before what went wrong
	return outcome(ctx, r, err)
}

// callIn has a stage do the request that joins the user namespace, and has the network
// namespace open.
func callIn(user, netns *os.File, req *request) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in, theirs, err := pipes()
	if err != nil {
		return reply{}, err
	}
	defer in.close()
	defer theirs.close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return reply{}, err
	}
	defer null.Close()
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return reply{}, err
	}
	defer exe.Close()
	barrier, open, err := os.Pipe() // its ids are mapped
	if err != nil {
		return reply{}, err
	}
	defer barrier.Close()
	defer open.Close()
	if _, err := open.Write([]byte{0}); err != nil {
		return reply{}, err
	}
	req.NetNS = netnsFD
	pid, err := join.Start(join.Config{
		Join: []join.Namespaces{{FD: int(user.Fd()), Flags: unix.CLONE_NEWUSER}},
		Exe:  int(exe.Fd()), Args: []string{userns.StageArg, fmt.Sprint(barrierFD), StageName}, Env: []string{},
		Files: []int{int(theirs.in.Fd()), int(theirs.out.Fd()), int(null.Fd()), int(barrier.Fd()), int(netns.Fd())},
	})
	theirs.close()
	if err != nil {
		return reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(pid, unix.SIGKILL) })
	r, err := in.talk(req)
	in.close()
	stop()
	_, _ = join.Wait(pid) // it has said before what went wrong
	return outcome(ctx, r, err)
}

// outcome is the error of a call.
func outcome(ctx context.Context, r reply, err error) (reply, error) {
	switch {
	case ctx.Err() != nil:
		return r, fmt.Errorf("the plugins have not done their work within %v", patience)
	case err != nil:
		return r, err
	case r.Error != "":
		return r, told(r.Error)
	}
	return r, nil
}

// told is the error that a stage told of: what plugins had done is undone then.
type told string

// Error returns the text.
func (e told) Error() string { return string(e) }

// unbegun is an error of before any plugin was run.
type unbegun struct{ error }

// Unwrap returns the error itself.
func (e unbegun) Unwrap() error { return e.error }

// ends are those of two pipes.
type ends struct{ in, out *os.File }

// pipes makes two pipes, to a stage and from it.
func pipes() (ours, theirs ends, err error) {
	if theirs.in, ours.out, err = os.Pipe(); err != nil {
		return ends{}, ends{}, err
	}
	if ours.in, theirs.out, err = os.Pipe(); err != nil {
		theirs.in.Close()
		ours.out.Close()
		return ends{}, ends{}, err
	}
	return ours, theirs, nil
}

// close closes both, once or again.
func (e ends) close() {
	e.in.Close()
	e.out.Close()
}

// talk sends the request and reads the reply.
func (e ends) talk(req *request) (reply, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return reply{}, err
	}
	if _, err := e.out.Write(append(b, '\n')); err != nil {
		return reply{}, errStage
	}
	var raw json.RawMessage
	if err := json.NewDecoder(io.LimitReader(e.in, maxReply)).Decode(&raw); err != nil {
		if errors.Is(err, io.EOF) {
			return reply{}, errStage
		}
		return reply{}, fmt.Errorf("read what the plugins have done: %w", err)
	}
	return decode(raw)
}
