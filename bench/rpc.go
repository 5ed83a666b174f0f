// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// callSlack is how long after the work itself should be done an endpoint's answer
// is still waited for.
const callSlack = 10 * time.Second

// maxLine bounds one request or answer, in bytes.
const maxLine = 1 << 20

// A request asks an endpoint to do one thing.
type request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// A response is an endpoint's answer: a result or what went wrong.
type response struct {
	Err    string          `json:"err,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// A remote is an endpoint process as its owner sees it. It takes one call at a
// time.
type remote struct {
	name    string
	pid     int
	cmd     *exec.Cmd // nil where the process is not our child
	in      io.WriteCloser
	out     io.Reader
	answers chan response
	stderr  *strings.Builder
}

// startRemote starts this binary as an endpoint in the place. With container set
// it gets a user and a network namespace of its own, in which the plain user is
// root: unshare -Urn. Close ends the process.
func startRemote(p *place, name string, container bool) (*remote, error) {
	cmd := exec.Command(selfExe, stageEndpoint)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if container {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	r, err := newRemote(name, cmd)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = r.stderr
	if err := p.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	r.cmd, r.pid = cmd, cmd.Process.Pid
	go r.read()
	return r, nil
}

// newRemote returns an endpoint whose input and output are those of the command,
// which is still to be started. Then read must run.
func newRemote(name string, cmd *exec.Cmd) (*remote, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return &remote{name: name, in: in, out: out, answers: make(chan response), stderr: new(strings.Builder)}, nil
}

// call sends the request and decodes the answer into result, which may be nil.
// work is how long the endpoint is expected to be busy.
func (r *remote) call(ctx context.Context, work time.Duration, op string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("%s: encode %s: %w", r.name, op, err)
	}
	line, err := json.Marshal(request{Op: op, Args: raw})
	if err != nil {
		return fmt.Errorf("%s: encode %s: %w", r.name, op, err)
	}
	if _, err := r.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: ask for %s: %w", r.name, op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, work+callSlack)
	defer cancel()
	select {
	case a, ok := <-r.answers:
		if !ok {
			return fmt.Errorf("%s: died during %s: %s", r.name, op, lastLine(r.stderr.String()))
		}
		if a.Err != "" {
			return fmt.Errorf("%s: %s: %s", r.name, op, a.Err)
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(a.Result, result); err != nil {
			return fmt.Errorf("%s: decode %s: %w", r.name, op, err)
		}
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%s: no answer to %s within %s", r.name, op, work+callSlack)
		}
		return ctx.Err()
	}
}

// close kills the endpoint and waits for it. One that is not our child must have
// been ended by then.
func (r *remote) close() {
	r.in.Close()
	if r.cmd != nil {
		r.cmd.Process.Kill()
	}
	for range r.answers {
	}
	if r.cmd != nil {
		r.cmd.Wait()
	}
}

// read passes the answers on until the endpoint closes its end. It owns the
// channel.
func (r *remote) read() {
	defer close(r.answers)
	lines := bufio.NewScanner(r.out)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var a response
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			a = response{Err: fmt.Sprintf("undecodable answer: %v", err)}
		}
		r.answers <- a
	}
}

// lastLine returns the last line of s that is not empty.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
