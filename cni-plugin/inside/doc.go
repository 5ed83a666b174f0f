// SPDX-License-Identifier: Apache-2.0

// Package inside looks at the interfaces, addresses and routes of a container's network
// namespace, for CHECK.
//
// The plugin does not enter the namespace. A process of several threads cannot join
// the user namespace that a plain user's container is in (setns(2)), and one that could
// would have to find the way back. So a netlink socket is made there by a child
// (tap.OpenSocket): it stays in that namespace, whoever holds it, and to ask by it takes
// no right (rtnetlink(7)). It keeps the namespace alive until it is closed, which is before
// Look returns.
//
// What comes back is the kernel's own and believed in. Other tables of routes than the
// main one are left out, since nothing of ours is in them that CHECK asks for.
package inside
