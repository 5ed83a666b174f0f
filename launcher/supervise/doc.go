// SPDX-License-Identifier: Apache-2.0

// Package supervise looks after one container: it runs a [launcher.Container] and
// keeps its record, its log and its control socket.
//
// # Processes
//
// A container has one supervisor. In the foreground that is `slipway run` itself,
// so that nothing is started for it and the command has the caller's own streams.
// A detached container's is the same binary started again in a session of its own
// ([Detach], [IsDetached]); its caller waits for one message, that the command runs
// or why not, and goes. There is no daemon: a supervisor that is killed takes its
// container along, since the kernel kills what it started (PR_SET_PDEATHSIG), and
// no other.
//
// # Life
//
//	New   checks the container             nothing is there yet
//	Run   state.Create                     created: name, lock, record, control socket
//	      the command is executed          running: record, ready message, sd_notify(3)
//	      it ends                          the log is drained, the exit written
//	      state.Close                      exited: kept, or removed
//
// # The control socket
//
// "ctl" in the container's directory is a SOCK_SEQPACKET socket, which only the
// user can reach. Each request and each answer is one packet of JSON. A client
// that connects and says nothing is let go after a while, and there is room for a
// bounded number of them; nobody waits for a client. Signals, the size of the
// terminal and input are sent through it. Output is not: who wants to see that
// reads the log, so that a client that is slow, or stopped, holds back nobody.
package supervise
