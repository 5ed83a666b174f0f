// SPDX-License-Identifier: Apache-2.0

package pasta

import "fmt"

// An Error is a command line that cannot be served: one message for standard error.
type Error struct{ text string }

// Error returns the message, without the program's name.
func (e *Error) Error() string { return e.text }

func refusef(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }
