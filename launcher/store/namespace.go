// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/slipway-net/slipway/launcher/unpack"
	"github.com/slipway-net/slipway/launcher/userns"
	"golang.org/x/sys/unix"
)

// StageName is the name of the stage (userns.Stage) in which files of other owners
// are handled; main calls Serve for it.
const StageName = "store"

// maxMessage bounds a message between the store and its stage, in bytes. A layer with
// many replaced files has the longest.
const maxMessage = 128 << 10

// maxStageErrors bounds what the stage may write to its standard error, in bytes: the
// first lines of a panic.
const maxStageErrors = 4 << 10

// maxFiles bounds the descriptors that come with a request.
const maxFiles = 2

// A request asks the stage for something.
type request struct {
	ID   uint64          `json:"id"`
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args"`
}

// A reply is the answer to the request with the same ID.
type reply struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	Owner  bool            `json:"owner,omitempty"` // the error is an unpack.ErrOwner
	Errno  unix.Errno      `json:"errno,omitempty"` // in the error's chain
}

// A stageError is an error of the stage: its text, and what errors.Is finds in it.
type stageError struct {
	text string
	is   []error
}

func (e *stageError) Error() string   { return e.text }
func (e *stageError) Unwrap() []error { return e.is }

// A namespace is a stage of a store, which is started when it is first needed.
type namespace struct {
	store *Store

	mu     sync.Mutex
	stage  *stage // nil if there is none
	closed bool
}

// A stage is a process in the user namespace of the store.
type stage struct {
	cmd  *userns.Cmd
	conn *os.File // a SOCK_SEQPACKET socket
	errs *head
	done chan struct{} // closed when the stage has ended, after end is set
	end  error

	mu    sync.Mutex // guards what follows, and sending
	gone  bool       // conn is closed
	last  uint64
	calls map[uint64]chan reply
}

// call asks the stage for op and puts what it answers in result, if that is not nil.
// files are passed along; they stay the caller's, and the stage has them open until it
// is done: what an operation reads or writes comes first, and a lock that is to last
// for as long as the operation, even if this process is killed, after it. When ctx is
// done the call returns, but the stage goes on: closing the other end of a pipe among
// files ends that.
func (n *namespace) call(ctx context.Context, op string, args any, result any, files ...*os.File) error {
	st, err := n.start()
	if err != nil {
		return err
	}
	b, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encode %s: %w", op, err)
	}
	answer, err := st.send(op, b, files)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case r := <-answer:
		if r.Error != "" {
			return r.err()
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-st.done:
		return st.end
	}
}

func (r reply) err() error {
	e := &stageError{text: r.Error}
	if r.Owner {
		e.is = append(e.is, unpack.ErrOwner)
	}
	if r.Errno != 0 {
		e.is = append(e.is, r.Errno)
	}
	return e
}

// start returns the stage, which it starts if there is none.
func (n *namespace) start() (*stage, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errors.New("the store is closed")
	}
	if n.stage != nil {
		select {
		case <-n.stage.done: // it failed; what it left is to be removed all the same
		default:
			return n.stage, nil
		}
	}
	st, err := newStage(n.store)
	if err != nil {
		return nil, err
	}
	n.stage = st
	return st, nil
}

// close ends the stage.
func (n *namespace) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.stage == nil {
		return nil
	}
	_ = n.stage.cmd.Process.Kill() // it may have ended
	<-n.stage.done
	n.stage = nil
	return nil
}

// newStage starts a stage: the store's ids, no network, and of files only what the
// store's user may reach.
func newStage(s *Store) (*stage, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start the store's stage: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "stage"), os.NewFile(uintptr(fds[1]), "store")
	defer theirs.Close()
	cmd := userns.Command(context.Background(), s.Mapping, StageName)
	cmd.Dir = s.Dir
	cmd.Namespaces = unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWNS
	st := &stage{cmd: cmd, conn: ours, errs: &head{limit: maxStageErrors}, done: make(chan struct{}), calls: map[uint64]chan reply{}}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = st.errs
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	theirs.Close()
	go st.receive()
	return st, nil
}

// send sends a request and returns where its answer will be.
func (st *stage) send(op string, args []byte, files []*os.File) (<-chan reply, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone {
		return nil, fmt.Errorf("ask the store's stage to %s: it has ended", op)
	}
	st.last++
	b, err := json.Marshal(request{ID: st.last, Op: op, Args: args})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", op, err)
	}
	answer := make(chan reply, 1)
	st.calls[st.last] = answer
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(int(st.conn.Fd()), b, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		delete(st.calls, st.last)
		return nil, fmt.Errorf("ask the store's stage to %s: %w", op, err)
	}
	return answer, nil
}

// receive hands out answers until the stage ends.
func (st *stage) receive() {
	defer close(st.done)
	buf := make([]byte, maxMessage)
	for {
		n, err := st.conn.Read(buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		var r reply
		if err := json.Unmarshal(buf[:n], &r); err != nil {
			break
		}
		st.mu.Lock()
		answer := st.calls[r.ID]
		delete(st.calls, r.ID)
		st.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
	_ = st.cmd.Process.Kill() // it has ended, or speaks nonsense
	err := st.cmd.Wait()
	st.mu.Lock()
	st.gone = true
	st.conn.Close()
	st.mu.Unlock()
	st.end = fmt.Errorf("the store's stage ended: %w", err)
	if text := st.errs.text(); text != "" {
		st.end = fmt.Errorf("%w: %s", st.end, text)
	}
}

// A head keeps the beginning of what is written to it.
type head struct {
	limit int
	mu    sync.Mutex
	b     bytes.Buffer
}

// Write implements io.Writer.
func (t *head) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p[:min(len(p), t.limit-t.b.Len())])
	return len(p), nil
}

func (t *head) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.b.String())
}
