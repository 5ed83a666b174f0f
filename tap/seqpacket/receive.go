// SPDX-License-Identifier: Apache-2.0

package seqpacket

import (
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// Receive reads the next message of c into body, what comes with it into oob, and returns
// their lengths in bytes and the flags of recvmsg(2). Descriptors in oob are the caller's,
// and closed on exec. It waits as c's Read does. The error is io.EOF at the end, for which
// an empty message with nothing in oob counts, too.
func Receive(c *net.UnixConn, body, oob []byte) (n, oobn, flags int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, 0, err
	}
	werr := raw.Read(func(fd uintptr) bool {
		n, oobn, flags, err = Recvmsg(int(fd), body, oob)
		return err != unix.EAGAIN
	})
	switch {
	case werr != nil:
		return 0, 0, 0, werr
	case err == nil && n == 0 && oobn == 0:
		return 0, 0, 0, io.EOF
	}
	return n, oobn, flags, err
}

// Recvmsg is recvmsg(2) on a socket that may block or not: it returns only lengths of 0 at
// the end.
func Recvmsg(fd int, body, oob []byte) (n, oobn, flags int, err error) {
	n, oobn, flags, err = recvmsg(fd, body, oob, 0)
	if err != nil || n > 0 || oobn > 0 {
		return n, oobn, flags, err
	}
	n, oobn, flags, err = recvmsg(fd, body, oob, unix.MSG_DONTWAIT)
	if err == unix.EAGAIN { // it was an empty message
		return 0, 0, 0, nil
	}
	return n, oobn, flags, err
}

func recvmsg(fd int, body, oob []byte, how int) (n, oobn, flags int, err error) {
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, body, oob, how|unix.MSG_CMSG_CLOEXEC)
		switch err {
		case nil:
			return n, oobn, flags, nil
		case unix.EINTR:
		default:
			return 0, 0, 0, err
		}
	}
}
