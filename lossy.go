// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A lossyWriter is where the log goes: it leaves out what its file does not take
// at once. The goroutine that carries the container's traffic writes to the log,
// and must not wait for whoever forgot to read our standard error.
type lossyWriter struct{ file *os.File }

// lossy returns w, as a lossyWriter if it is a file.
func lossy(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok {
		return lossyWriter{f}
	}
	return w
}

// Write writes a line or leaves it out. A pipe that polls writable takes at least
// a page (pipe_poll in fs/pipe.c), which no line exceeds by far.
func (l lossyWriter) Write(b []byte) (int, error) {
	p := []unix.PollFd{{Fd: int32(l.file.Fd()), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	if err != nil || n == 0 || p[0].Revents&unix.POLLOUT == 0 {
		return len(b), nil
	}
	return l.file.Write(b)
}
