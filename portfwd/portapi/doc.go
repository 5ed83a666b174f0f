// SPDX-License-Identifier: Apache-2.0

// Package portapi is the HTTP API for published ports: what its requests and replies
// look like, and the handler that serves them from a table of ports.
//
//	GET    /v1/ports                        every Port, as an array
//	GET    /v1/ports/ID                     one Port
//	POST   /v1/ports                        publish: 201 and what was published
//	DELETE /v1/ports/ID[?cut=true]          withdraw one
//	DELETE /v1/ports?id=ID&rule=RULE[&cut=true]   withdraw several; both may be repeated
//
// # One resource, two kinds of client
//
// The API is RootlessKit's, so that its clients (rootlessctl, nerdctl, dockerd) work
// with it, and more. Where RootlessKit takes one object, a POST takes:
//
//	{"proto":"tcp","parentPort":8080,"childPort":80}     a Spec; the reply is a Port
//	"8080:80/tcp"                                        a rule; the reply is an array
//	["8080:80", {"proto":"udp",...}, ...]                several; the reply is an array
//
// A Spec has fields which RootlessKit's clients do not send and ignore when they get
// them. A Port has its spec as it was asked for: nerdctl finds its ports again by
// comparing that.
//
// # All or nothing
//
// A request publishes all of its ports or none, and withdraws all or none. One that
// has been read is carried out even where its client no longer waits. The status of
// a failure says what kind it is: 400 for what is wrong by itself, 403 for a port
// that takes a privilege, 404 for a port that is not there, 409 for one that is
// taken. RootlessKit says 400 to all of them; its clients only look for 2xx.
package portapi
