// SPDX-License-Identifier: Apache-2.0

// Package scope gives processes a control group of their own where systemd runs: a
// transient scope (org.freedesktop.systemd1(5), systemd.scope(5)).
//
// A process that outlives who started it must not stay in the unit of that one: when the
// unit is stopped, systemd kills what is left in its group, and what the process uses is
// counted as the unit's. And a plain user gets limits from a group that systemd has
// delegated to it alone.
//
// # Theory of operation
//
// Own looks for the private socket of the manager that the caller belongs to: the
// system's for root, the user's own for others, root of a user namespace among them.
// Where none is found there is no systemd, and nothing else happens: that costs a
// stat(2) or two. Start connects to the socket, makes sure by SO_PEERCRED who is behind
// it, and asks for the unit by D-Bus, without a bus in between. It returns when systemd
// says that the unit is there, which moves the processes, and not later than Timeout.
//
// Numbers of processes mean something in one pid namespace. A manager in another one,
// as seen from a container that has the socket mounted, is not asked: it would move
// somebody else's process.
//
// A scope ends by itself when its last process has. Nothing has to be removed.
package scope
