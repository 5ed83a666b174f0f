// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// How many files and sockets, taken together, and settings Inside may ask for.
const (
	maxInside   = 48
	maxSettings = 8
)

// Inside lists what Open makes in the target namespaces besides the tap: what
// only somebody inside can make, and anybody use who is handed it. What cannot be
// made is no failure of Open: Opened says so. The zero Inside asks for nothing.
type Inside struct {
	// Settings are written, in their order, before anything is opened.
	Settings []Setting
	// Files are paths below /proc/sys, opened for reading. They go on showing the
	// target's values.
	Files []string
	// Sockets are made by socket(2), non-blocking and close-on-exec.
	Sockets []Socket
}

// A Setting is a value for a file below /proc/sys, such as
// "net/ipv4/ip_forward" and "1".
type Setting struct{ Path, Value string }

// A Socket has the arguments of socket(2).
type Socket struct{ Domain, Type, Protocol int }

// Opened is what came of an Inside. Its slices are as long as those asked for.
type Opened struct {
	// Settings has nil where the value was set, else why not.
	Settings []error
	Files    []File
	Sockets  []File
}

// A File is a descriptor, or -1 and the reason.
type File struct {
	FD  int
	Err error
}

const procSys = "/proc/sys"

// check refuses what does not fit into a script.
func (in Inside) check() error {
	if n := len(in.Files) + len(in.Sockets); n > maxInside {
		return fmt.Errorf("%d files and sockets inside the target: want at most %d", n, maxInside)
	}
	if n := len(in.Settings); n > maxSettings {
		return fmt.Errorf("%d settings inside the target: want at most %d", n, maxSettings)
	}
	return nil
}

// inside appends what Config.Inside asks for. The failure of a step is noted, and
// the script goes on.
func (s *setup) inside() {
	in := s.cfg.Inside
	for _, set := range in.Settings {
		o := s.open("open "+set.Path, regSysctl, path.Join(procSys, set.Path), unix.O_WRONLY)
		w := s.write("set "+set.Path, regSysctl, set.Value)
		s.closeReg(regSysctl)
		s.steps[w].otherwise = w + 1
		s.steps[o].otherwise = s.next()
		s.opened = append(s.opened, o, w)
	}
	reg := regInside
	for _, f := range in.Files {
		s.optional(s.open("open "+f, reg, path.Join(procSys, f), unix.O_RDONLY))
		reg++
	}
	for _, so := range in.Sockets {
		args := [4]uintptr{uintptr(so.Domain), uintptr(so.Type | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC), uintptr(so.Protocol)}
		s.optional(s.add("make a socket", step{op: opCall, call: unix.SYS_SOCKET, args: args, in: noReg, out: reg}))
		reg++
	}
}

// optional lets the script go on where the step i, its last, fails.
func (s *setup) optional(i int) {
	s.steps[i].otherwise = s.next()
	s.opened = append(s.opened, i)
}

// takeInside reads what came of it.
func (s *setup) takeInside() Opened {
	var out Opened
	steps := s.opened
	for range s.cfg.Inside.Settings {
		err := s.failed(steps[0])
		if err == nil {
			err = s.failed(steps[1])
		}
		out.Settings = append(out.Settings, err)
		steps = steps[2:]
	}
	reg := regInside
	take := func() File {
		f := File{FD: s.take(reg), Err: s.failed(steps[0])}
		reg, steps = reg+1, steps[1:]
		return f
	}
	for range s.cfg.Inside.Files {
		out.Files = append(out.Files, take())
	}
	for range s.cfg.Inside.Sockets {
		out.Sockets = append(out.Sockets, take())
	}
	return out
}

func (o Opened) close() {
	for _, l := range [][]File{o.Files, o.Sockets} {
		for _, f := range l {
			if f.FD >= 0 {
				closeFile(f.FD)
			}
		}
	}
}
