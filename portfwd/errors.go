// SPDX-License-Identifier: Apache-2.0

package portfwd

import "errors"

// What errors of this package are, by errors.Is. Their text says more: which port,
// and what to do.
var (
	// ErrRule: there can be no such rule.
	ErrRule = errors.New("the rule is wrong")
	// ErrInUse: the port is taken, by another port of this container or by a process
	// of the host.
	ErrInUse = errors.New("the port is in use")
	// ErrPrivileged: the host lets only root have the port.
	ErrPrivileged = errors.New("the port is privileged")
	// ErrNotOurs: the host does not have the address.
	ErrNotOurs = errors.New("the address is not the host's")
	// ErrNoInterface: the host does not have the interface.
	ErrNoInterface = errors.New("the host has no such interface")
	// ErrNoLoopback: services at the container's loopback are out of reach.
	ErrNoLoopback = errors.New("the container's loopback is out of reach")
	// ErrTooMany: a Table has its bound, and a process one of descriptors.
	ErrTooMany = errors.New("too many ports are published")
	// ErrNoPort: there is no port of that ID.
	ErrNoPort = errors.New("there is no such port")
	// ErrClosed: the Table is closed.
	ErrClosed = errors.New("no ports are published any more")
)

// A failure is an error of one of the kinds above.
type failure struct {
	kind   error
	text   string
	cause  error  // nil where there is none
	socket uint32 // as of HiddenSocket
}

// Error returns the text, which tells the cause already.
func (f *failure) Error() string { return f.text }

// Unwrap returns the kind and the cause.
func (f *failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.kind}
	}
	return []error{f.kind, f.cause}
}
