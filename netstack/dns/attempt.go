// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MaxAnswer is the room that any answer over UDP fits in (bytes).
const MaxAnswer = maxMessage

// An Attempt is a query on its way to the first server, for a caller that waits
// for descriptors itself and has no goroutine to spare. Nearly all queries end
// there; the others are handed to one with Resume. Make it with Begin; Close it
// unless it was resumed. It is not safe for concurrent use.
type Attempt struct {
	f     *Forwarder
	query []byte
	hunt  hunt
	began time.Time
	fd    int  // -1: none
	later bool // the servers are to be looked up by Resume
	done  bool
}

// Begin starts what Exchange does over UDP, without waiting for anything: it
// opens a socket and sends the query. If a is nil, answer is the answer, which is
// nil where there is to be none. Otherwise the caller waits until a.FD is readable
// and calls a.Receive, or until f.Timeout is over and calls a.Expire. Begin keeps
// nothing of query.
func (f *Forwarder) Begin(query []byte) (a *Attempt, answer []byte) {
	answer, ok := f.admit(query)
	if !ok {
		return nil, answer
	}
	a = &Attempt{f: f, query: bytes.Clone(query), began: time.Now(), fd: -1}
	if a.later = f.due(); a.later {
		return a, nil // to look at files takes time
	}
	a.hunt.servers = f.current(false)
	a.send()
	return a, nil
}

// Timeout is how long after Begin an Attempt that has received no answer is to
// expire.
func (f *Forwarder) Timeout() time.Duration { return f.cfg.Timeout }

// FD returns the socket to watch, which stays a's: stop watching before Close
// and Resume. It is negative where the query did not go out; then Resume is what
// remains to be called.
func (a *Attempt) FD() int { return a.fd }

// Receive reads one datagram into room, of MaxAnswer bytes, and returns the
// answer that the container gets, which may lie in room. If that is nil, either
// waiting is true and what came was not the answer, or Resume is to be called.
func (a *Attempt) Receive(room []byte) (answer []byte, waiting bool) {
	n, errno := rawRead(a.fd, room[:receiveSize(a.query)])
	b := room[:n]
	var err error
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return nil, true
	case errno != 0:
		err = fmt.Errorf("ask dns server %s: %w", a.hunt.server(), os.NewSyscallError("read", errno))
	case !answers(b, a.query):
		a.f.stats.mismatched.Add(1)
		return nil, true
	case poorAnswer(b):
		b = bytes.Clone(b) // it may be needed when room has other uses
	}
	switch {
	case a.f.settle(&a.hunt, b, err):
		answer = b
	case a.hunt.over():
		answer = a.hunt.poor
	default:
		return nil, false
	}
	return a.f.conclude(a.query, answer), false
}

// Expire holds it against the server that it has not answered in time. Call
// Resume after it.
func (a *Attempt) Expire() {
	a.f.settle(&a.hunt, nil, fmt.Errorf("ask dns server %s: %w", a.hunt.server(), os.ErrDeadlineExceeded))
}

// Resume asks the remaining servers and returns as Exchange does. It blocks, and
// is the last use of a.
func (a *Attempt) Resume(ctx context.Context) []byte {
	a.closeSocket()
	defer a.Close()
	if a.later {
		a.hunt.servers = a.f.order(false)
	}
	return a.f.finish(ctx, a.query, &a.hunt, a.began)
}

// Close gives up the query, if it is not answered yet, and closes its socket.
// Close may be called again.
func (a *Attempt) Close() {
	a.closeSocket()
	if !a.done {
		a.done = true
		<-a.f.inFlight
	}
}

func (a *Attempt) closeSocket() {
	if a.fd >= 0 {
		rawClose(a.fd)
		a.fd = -1
	}
}

// send asks the first server, or leaves it to Resume.
func (a *Attempt) send() {
	server := a.hunt.server()
	if server.Addr().Zone() != "" || a.f.local(server.Addr()).Zone() != "" {
		return // to find the interface's number takes a look at all of them
	}
	fd, err := a.f.socket(server)
	if err == nil {
		var errno unix.Errno
		if errno = rawWrite(fd, a.query); errno == 0 {
			a.fd = fd
			return
		}
		rawClose(fd)
		if errno == unix.EAGAIN {
			return // that is not the server's fault
		}
		err = os.NewSyscallError("write", errno)
	}
	a.f.settle(&a.hunt, nil, fmt.Errorf("reach dns server %s: %w", server, err))
}
