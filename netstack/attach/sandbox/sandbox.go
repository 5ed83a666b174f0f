// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// A Mode says whether a part of the sandbox is to be in force.
type Mode int

const (
	// Auto puts the part in force where it can be had, and goes on without it.
	Auto Mode = iota
	// Require makes Enter fail where the part cannot be had.
	Require
	// Off leaves the part out.
	Off
)

// ErrOff is the reason, in a State, of a part that the Policy leaves out.
var ErrOff = errors.New("switched off")

// A Policy says what a process needs from now on. The zero Policy is for one that
// needs no file and no capability, with each part in force that can be had. Paths
// are absolute.
type Policy struct {
	// Root, Landlock and Filter are the parts: an empty root, Landlock, and the
	// filter of system calls.
	Root, Landlock, Filter Mode
	// Keep are the capabilities to keep, of those that the process has.
	Keep Capabilities
	// Read are files to be read, and read again when they are replaced.
	Read []string
	// Remove are files to be removed. Their directories stay in reach, and any
	// file there can be removed.
	Remove []string
	// Look are files to be looked at by stat(2), but not opened.
	Look []string
	// Connect are Unix sockets to connect to. They need not be there yet, but a
	// directory that is not stays out of reach. Without any, no Unix socket can be
	// made.
	Connect []string
	// Change are directories below which files and directories are made, changed and
	// removed; Clear those below which they are listed and removed; and Prune those below
	// which directories are listed, and empty ones removed.
	Change, Clear, Prune []string
	// Wait says that the process has children, which it signals and waits for, and
	// terminals to set.
	Wait bool
}

// A State is what is in force.
type State struct {
	// Root, Landlock and Filter are nil where the part is in force, else why it is
	// not.
	Root, Landlock, Filter error
	// Version is that of Landlock's rules (its "ABI"), 0 where it is not in force.
	Version int
	// Calls is how many system calls the filter lets through, on whatever condition.
	Calls int
	// Kept are the capabilities that are left.
	Kept Capabilities
}

// Enter puts in force what the Policy says, for the whole process; see the
// package's documentation. It comes after all that needs more than the Policy lets
// through. After an error the process may be confined in part, and should end. It
// must not be called twice, or while another goroutine changes privileges.
func Enter(p Policy) (State, error) {
	places, err := newPlaces(p)
	if err != nil {
		return State{}, err
	}
	// The time zone's file is read at the first local time that is printed.
	_, _ = time.Now().Zone()
	var s State
	if s.Root, err = p.Root.try("empty the root", func() error { return emptyRoot(places) }); err != nil {
		return s, err
	}
	if s.Kept, err = Drop(p.Keep); err != nil {
		return s, err
	}
	if err := limit(); err != nil {
		return s, err
	}
	s.Landlock, err = p.Landlock.try("restrict files by Landlock", func() (err error) {
		s.Version, err = landlock(places)
		return err
	})
	if err != nil {
		return s, err
	}
	s.Filter, err = p.Filter.try("filter system calls", func() (err error) {
		s.Calls, err = filter(newNeeds(p, s.Kept))
		return err
	})
	return s, err
}

// try puts a part in force. It returns why it is not, and that as an error where the
// process must not go on without it.
func (m Mode) try(what string, part func() error) (why, err error) {
	if m == Off {
		return ErrOff, nil
	}
	if why = part(); why != nil && m == Require {
		return why, fmt.Errorf("%s: %w", what, why)
	}
	return why, nil
}

// Log logs the state in one line: as a warning where the process is less confined than
// a plain user's can be on a current kernel, unless that was asked for.
func (s State) Log(log *slog.Logger) {
	level := slog.LevelInfo
	for _, why := range []error{s.Landlock, s.Filter} {
		if why != nil && why != ErrOff {
			level = slog.LevelWarn
		}
	}
	word := func(why error, in string) string {
		if why != nil {
			return "no: " + why.Error()
		}
		return in
	}
	log.Log(context.Background(), level, "sandbox",
		"empty root", word(s.Root, "yes"),
		"landlock", word(s.Landlock, "version "+strconv.Itoa(s.Version)),
		"seccomp", word(s.Filter, strconv.Itoa(s.Calls)+" system calls"),
		"capabilities", s.Kept.String())
}
