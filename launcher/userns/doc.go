// SPDX-License-Identifier: Apache-2.0

// Package userns maps the ids of user namespaces, and runs this binary in one.
//
// # Ids
//
// An unprivileged user may map its own uid and gid and the ranges of subordinate
// ids that the administrator gave it (subuid(5), subgid(5), or what nsswitch.conf(5)
// names for "subid"). [Load] finds them; the methods of [Caller] make a [Mapping] of
// them:
//
//	Default   0 is the caller, 1 and up are subordinate ids
//	KeepID    the caller keeps its ids (or has those asked for); all others are subordinate
//	NoMap     subordinate ids alone: the caller's files are nobody's
//	Auto      a slice of the subordinate ids that no other container has (see Pool)
//	Single    0 is the caller, and there is no other id
//
// A mapping of more than the caller's own ids is written by newuidmap(1) and
// newgidmap(1), which are set-user-ID, side by side; any other is written directly,
// as is every mapping by a caller with CAP_SETUID and CAP_SETGID. ErrNoSubIDs in an
// error's chain means that only Single can be had; its text says what mends that.
//
// # Stages
//
// A stage is this binary again, in a new user namespace with a mapping, with every
// capability there: what may chown and remove files of subordinate ids. Start of a
// [Cmd] returns when the mapping is written. On the other side main calls [Stage]
// before anything else, which waits for the mapping and becomes the namespace's root:
//
//	caller                               stage
//	clone into the namespace       ───►  Go runtime starts
//	newuidmap ‖ newgidmap                wait for the barrier
//	write the barrier              ───►  setresgid(0), setresuid(0), setgroups()
//	                                     main does what the name says
//
// A stage dies with the thread that started it (PR_SET_PDEATHSIG).
package userns
