// SPDX-License-Identifier: Apache-2.0

package slirp4netns

import "fmt"

// An Error is a command line that cannot be served. Its text is what slirp4netns
// writes to standard error for it, one or two lines; it may be empty, where the usage
// says all.
type Error struct {
	text string
	// Usage means that the usage goes to standard output.
	Usage bool
}

// Error returns the text.
func (e *Error) Error() string { return e.text }

func usagef(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...), true} }

func refusef(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...), false} }
