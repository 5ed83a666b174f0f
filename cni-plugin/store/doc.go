// SPDX-License-Identifier: Apache-2.0

// Package store keeps what the plugin knows of attachments between its runs, each of
// which is a process of its own: one directory for each attachment, below that of its
// network.
//
//	STATE/<network>/<attachment>/     hashes of the names, which may be longer than a
//	                                  socket's path allows
//	    attachment.json               the names, the namespace, when it was made
//	    pid                           the helper's, locked for as long as it lives
//	    api                           the helper's socket
//	    log                           what the helper has to say
//
// STATE is on a file system in memory: a reboot ends helpers and forgets them. It does
// not depend on variables that a runtime has in one call and not in the next; see Dir.
//
// # Locks
//
// Two locks tell two things apart. Who adds, checks or deletes an attachment holds a lock
// on its directory (flock(2)), so that these come one after the other. The helper holds
// one on the file pid (fcntl(2)), which the kernel takes away when it ends, however it
// ends, and which tells its process id to who asks. A helper that is being started has
// the first of them, inherited, until it has the second: there is no moment in which
// it is not known.
//
// An attachment whose directory nobody has locked and that has no file pid is over: its
// helper has ended by itself, with the namespace, and nobody called DEL. Sweep removes
// what is left of such.
package store
