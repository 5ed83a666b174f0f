// SPDX-License-Identifier: Apache-2.0

// Package client asks a running helper, and changes its published ports, by the API
// on its UNIX socket. The command line and the CNI plugin use it; it links nothing of
// the stack.
//
// Each question is a connection of its own: the helper serves one request on each,
// so that no client holds its place while it has nothing to say.
//
// What the helper refuses is an *Error with its message and status; errors.Is finds
// in it the error of package portfwd that the status stands for, such as
// portfwd.ErrInUse.
package client
