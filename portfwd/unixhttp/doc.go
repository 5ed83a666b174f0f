// SPDX-License-Identifier: Apache-2.0

// Package unixhttp serves HTTP on a UNIX socket to the owner of the process, and
// answers in JSON.
//
// # Who is served
//
// The socket has mode 0600 from the moment it is there. The kernel says besides who
// is at the other end (SO_PEERCRED of unix(7)): whoever is neither root, nor our own
// user, nor the one who started us is told so, whatever the request.
//
// # What a client can cost
//
// Clients are served in slots, of which there is a bounded number; the others wait in
// the kernel's queue. A connection is for one request: nobody holds a slot in silence
// between two. The header and the body must come in time, both are bounded in size, and
// a reply that is not read in time ends the connection. So a client can be slow for
// other clients, for a moment, and for nobody else.
//
// # Errors
//
// What goes wrong is told as {"message": "..."}, one line, with a status of its
// kind. That holds for what http.ServeMux answers by itself, too: see Mux.
package unixhttp
