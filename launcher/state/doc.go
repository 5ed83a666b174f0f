// SPDX-License-Identifier: Apache-2.0

// Package state remembers a user's containers. There is no daemon and no lock
// that two containers share: each container has a directory, which only its own
// supervisor writes, and every question is answered by looking.
//
// # Where
//
// A [Store] has two places. The run directory is $XDG_RUNTIME_DIR/slipway, which a
// reboot empties, or /tmp/slipway-UID for a user without one; see [RunDir]. The
// data directory, ~/.local/share/slipway, outlives a reboot and holds what is
// kept of a container that is not thrown away at its end. See [DataDir].
//
//	RUN/containers/ID/state.json   the Record, replaced by rename(2)
//	                  lock         write-locked by the supervisor while it lives
//	                  exit         the Exit, written in place at the end
//	                  ctl, api     sockets of the supervisor
//	RUN/names/NAME                 the ID of the container of that name
//	DATA/containers/ID/state.json  as of its start
//	                   exit        the same Exit
//	                   logs/       of a detached container
//
// When its command runs a record is complete, and never written again: others start, join
// and remove a container by what it says, and its supervisor, whom the container may have
// taken over by then, has no part in that. Without DATA the logs are in RUN.
//
// # States
//
//	created ──► running ──► exited
//
// A container is created when its directory is there, running when its Record has
// a first process, and exited when nobody holds its lock. The lock is an open file
// description lock (fcntl(2), F_OFD_SETLK): the kernel gives it up with the
// supervisor, however that ends, and looking at it (F_OFD_GETLK) disturbs nobody.
// So a supervisor that was killed leaves an exited container, whose command the
// kernel has killed as well; without an exit its code is 137. After a reboot, known
// by the boot id, all are exited. A process id is believed only together with the
// time that process started (proc_pid_stat(5), field 22).
//
// The exit is written into a file that has its room already, so that a full disk
// loses no exit code.
//
// # Birth and death
//
// A directory is filled under a name with a leading dot, locked, and renamed; one
// that its maker did not live to rename is removed by the next [Store.List]. A name
// is claimed after that, under a lock of the name's own file: whoever finds another
// living ID in it removes its own container again. A container to be thrown away
// whose supervisor was killed is removed by the next List too.
package state
