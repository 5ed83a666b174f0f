// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/slipway-net/slipway/launcher/unpack"
	"golang.org/x/sys/unix"
)

// stageFD is the descriptor of the socket on which a stage is asked.
const stageFD = 3

// An operation does what a request asks for. dir is the store's directory; file came
// with the request and may be nil.
type operation func(dir *os.Root, args json.RawMessage, file *os.File) (any, error)

// operations are all that a stage does.
func operations() map[string]operation {
	return map[string]operation{
		opUnpack:  serveUnpack,
		opRemove:  serveRemove,
		opRebuild: serveRebuild,
		opVerify:  serveVerify,
		opOwn:     serveOwn,
		opShift:   serveShift,
	}
}

// Serve is the main function of the stage StageName; it returns the exit code. The
// working directory is the store's.
func Serve() int {
	unix.Umask(0) // modes are the image's
	unix.CloseOnExec(stageFD)
	dir, err := os.OpenRoot(".")
	if err != nil {
		fmt.Fprintf(os.Stderr, "open the store: %v\n", err)
		return 1
	}
	defer dir.Close()
	ops := operations()
	var work sync.WaitGroup
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	for {
		n, oobn, _, _, err := unix.Recvmsg(stageFD, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 { // the store has gone, and with it whoever waits
			return 0
		}
		files := passed(oob[:oobn])
		var q request
		if err := json.Unmarshal(buf[:n], &q); err != nil {
			fmt.Fprintf(os.Stderr, "understand a request: %v\n", err)
			return 1
		}
		work.Go(func() {
			var stream *os.File
			for _, f := range files {
				defer f.Close()
			}
			if len(files) > 0 {
				stream = files[0]
			}
			answer(q, ops[q.Op], dir, stream)
		})
	}
}

// passed are the descriptors in a control message.
func passed(oob []byte) []*os.File {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return nil
	}
	var files []*os.File
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "passed"))
	}
	return files
}

// answer does what q asks for and sends the answer.
func answer(q request, do operation, dir *os.Root, file *os.File) {
	r := reply{ID: q.ID}
	if do == nil {
		r.Error = fmt.Sprintf("the store's stage cannot %q", q.Op)
	} else if result, err := do(dir, q.Args, file); err != nil {
		r.Error, r.Owner = err.Error(), errors.Is(err, unpack.ErrOwner)
		_ = errors.As(err, &r.Errno)
	} else if r.Result, err = json.Marshal(result); err != nil {
		r.Error = err.Error()
	}
	b, err := json.Marshal(r)
	if err == nil && len(b) > maxMessage {
		b, err = json.Marshal(reply{ID: q.ID, Error: "the answer of the store's stage is too long"})
	}
	if err == nil {
		err = unix.Sendmsg(stageFD, b, nil, nil, unix.MSG_NOSIGNAL)
	}
	if err != nil {
		// Nobody would ever wait for it to end.
		fmt.Fprintf(os.Stderr, "answer: %v\n", err)
		os.Exit(1)
	}
}
