// SPDX-License-Identifier: Apache-2.0

// Package attach ties the parts together into a session: one container's network
// namespace, the tap in it, and the network behind the tap. The command
// `slipway attach`, the launcher and the benchmark use it; it is the only package
// that knows both tap and netstack.
//
// # Life of a session
//
// New does all that can fail: it parses nothing and waits for nobody, but enters
// the namespace, makes the tap, configures it, and assembles the stack. When it
// has returned the container may send; its frames wait in the tap. Run carries
// them. It ends when its context does, or by itself when the namespace is gone:
// nothing here keeps a namespace alive that its container has left. Close removes
// the tap, and with it the container's interface.
//
// # Process
//
// Harden, Tune and Settle act on the whole process and are for programs whose only
// purpose is a session: the first gives up every privilege that the process has
// but what Session.Capabilities says, the second raises limits, and the third, once the
// session is ready, trades memory and threads for the way a session uses them.
//
// With the spliced path a session goes on changing rules in the container's
// network namespace. Who owns the user namespace of that, seen from outside, needs
// no capability for it, and keeps none. Its root inside, as Podman starts a
// network helper, and real root keep CAP_NET_ADMIN alone.
package attach
