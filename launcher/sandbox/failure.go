// SPDX-License-Identifier: Apache-2.0

package sandbox

import "errors"

// Exit codes of a container whose command did not run, those of chroot(1) and
// Podman.
const (
	ExitOurs          = 125 // the launcher failed
	ExitNotExecutable = 126 // the command is there and cannot be executed
	ExitNotFound      = 127 // the command is not there
	ExitSignal        = 128 // plus the signal that ended the command
)

// A Failure is why a container did not start, as its init stage reports it.
type Failure struct {
	Code int    // the exit code: 125, 126 or 127
	Text string // one line that says what and what to do
}

// Error returns the text.
func (f *Failure) Error() string { return f.Text }

// FailureOf gives err an exit code: the Failure in it, or 125.
func FailureOf(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Code: ExitOurs, Text: err.Error()}
}

// encode is f as a frame's payload: the code, then the text.
func (f *Failure) encode() []byte { return append([]byte{byte(f.Code)}, f.Text...) }

// DecodeFailure reads the payload of a FrameFailure. It always returns one.
func DecodeFailure(b []byte) *Failure {
	if len(b) < 2 {
		return &Failure{Code: ExitOurs, Text: "the init stage failed and did not say why"}
	}
	return &Failure{Code: int(b[0]), Text: string(b[1:])}
}
