// SPDX-License-Identifier: Apache-2.0

// Package helper starts, finds and stops the process that carries an attachment's
// traffic: `slipway attach`.
//
// A helper is nobody's child for long. It gets a session of its own, the root directory,
// a handful of variables, and of descriptors only /dev/null, its log, a pipe and a lock:
// runtimes wait until everybody has closed the pipes that they gave the plugin, and a
// systemd that is told READY=1 by the wrong process believes it. When its network is up
// it writes a byte to the pipe; where nobody reads that any more, since the plugin was
// killed, it ends. From then on it lives for as long as the container's network
// namespace.
//
// It is known by the lock on its pidfile, never by a number alone: Find asks the kernel
// who holds the lock, opens a pidfd for that process, and asks again.
package helper
