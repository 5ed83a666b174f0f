// SPDX-License-Identifier: Apache-2.0

// Package tap is the container's end of the wire: it enters the container's
// network namespace, makes a tap there, gives the namespace addresses and
// routes, and hands out the tap's descriptor. It also has the address plan and
// the virtio-net header that precedes each frame. It moves no frames: reading
// and writing the descriptor is the business of its user.
//
// # Entering
//
// A process of several threads, as each Go program is, cannot join a user
// namespace (setns(2), EINVAL). Open therefore forks a child that does, inside the
// runtime's own bracket around forks. In the child nothing of the Go runtime works. It cannot allocate, grow
// the stack or take a lock, so it runs a script: steps of plain numbers, one
// system call each, which the parent has made ready together with all messages
// and buffers. What the child has to tell, such as errno of each step,
// descriptors and the MAC address, it writes into a mapping that both share;
// so the parent knows what there is to close even if the child is killed.
//
// The two also share the table of descriptors (CLONE_FILES): what the child opens
// is ours at once. And they share memory until the child's end, for which this thread
// waits: to copy the page tables would take 0.6 ms for 15 MB of memory in use, and
// each page that is written to afterwards as long as a page fault. They do not share
// credentials, because joining a user namespace changes those: the child gets every
// capability in that namespace, without any setuid. It also makes the memory
// undumpable, which keeps the container's processes from tracing the child, and
// which Open takes back at the end. No thread of ours ever leaves its namespaces. The child has no exit signal, so neither a SIGCHLD
// handler nor a reaping wait4(-1) of the program notices it; it blocks all
// signals, and it is waited for before Open returns.
//
// The user namespace is joined only where it is not ours already, so that Open
// works for a plain user who owns the container's user namespace from outside,
// for its root inside, and for real root. The user namespace is the one that
// owns the network namespace, which the kernel tells (ioctl_ns(2)).
//
// # Whose namespace the tap holds
//
// An open tap keeps alive the network namespace in which /dev/net/tun was opened
// (drivers/net/tun.c, tun_chr_open), even when the interface is moved away.
// That decides how the end of the container is noticed:
//
//	moved      (the default) opened in a throw-away namespace that the child
//	           makes, then moved into the target by RTM_NEWLINK. The target
//	           dies when its last process, mount or descriptor goes; then
//	           polling the descriptor gives POLLERR, reading EBADFD.
//	pinned     (Config.Pin) opened in the target. Open takes 1.2 ms rather than
//	           14 to 24 ms at HZ=250, since moving a link waits for an RCU
//	           barrier, some ticks of the clock. The target stays alive until
//	           Close: Watch says when nobody else needs it.
//	taken over the target has a tap of that name that nobody holds open. It can
//	           only be opened in the target, so this is like pinned. Nothing of
//	           its configuration changes that Config does not ask for.
//
// No descriptor of a namespace outlives Open.
//
// # Offloads
//
// With IFF_VNET_HDR and TUNSETOFFLOAD a frame is up to 64 KiB, whatever the MTU,
// with checksums left to us. The kernel is asked for everything that
// Config.Offload allows, and where it refuses for less: without UDP
// segmentation (Linux before 6.2), checksums only, the header only, plain
// frames. Device.Offload says what it came to.
//
// # Configuring
//
// With Config.Configure the child sets, by netlink messages, lo up, then MTU,
// queue, MAC address, the interface up, addresses and default routes. Router
// advertisements are ignored on it, lest autoconfiguration add a second address,
// and duplicate address detection is off: nobody else is on the wire, and it
// would hold up the first connection by a second or two. Both are settings in
// /proc/sys, left alone where that cannot be written. The kernel makes an IPv6
// address the container's own a little after it has taken it, so the child waits
// for that, 50 ms at most. A namespace without IPv6 gets IPv4 alone, and
// Device.IPv6Err says why.
//
// # For others
//
// Config.Inside names settings, files and sockets that the child makes as well,
// for whoever goes on changing the target from outside: a netlink socket stays in
// the namespace in which it was made. Device.Granted says whether using it takes
// a capability.
//
// # Failures
//
// Each step has a name that the error carries, with what to do for the errors
// that users meet. After a failure the parent closes all that the child opened.
// The tap goes with its descriptor, and its addresses and routes with it. Two
// things stay: lo, once up, stays up, and a taken-over tap keeps what was set on
// it before the step that failed.
package tap
