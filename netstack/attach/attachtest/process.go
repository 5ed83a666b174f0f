// SPDX-License-Identifier: Apache-2.0

package attachtest

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

// A Process is a command under way in a Place.
type Process struct {
	// Out is what it writes to standard output and error.
	Out  *bufio.Reader
	argv []string
	done *net.UnixConn
	pipe *os.File
	end  sync.Once
}

// Start starts a command in the place, with nothing to read. The test's end kills
// it and all of its process group.
func (p *Place) Start(t testing.TB, argv ...string) *Process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	done, err := p.start(argv, null, w, w)
	if err != nil {
		t.Fatalf("start %q: %v", argv, err)
	}
	proc := &Process{Out: bufio.NewReader(r), argv: argv, done: done, pipe: r}
	t.Cleanup(proc.Kill)
	return proc
}

// WaitLine reads the output up to a line that has the text, and returns it.
func (p *Process) WaitLine(t testing.TB, text string) string {
	t.Helper()
	var before strings.Builder
	for {
		line, err := p.Out.ReadString('\n')
		if strings.Contains(line, text) {
			return line
		}
		before.WriteString(line)
		if err != nil {
			t.Fatalf("%q ended without a line with %q: %s", p.argv, text, &before)
		}
	}
}

// Wait waits for the end of the command, whose output must have been read if it
// is long, and returns its exit code: 128 and the signal where one killed it.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	r, _, err := await(p.done)
	if err != nil || r.Err != "" {
		t.Fatalf("run %q: %s %v", p.argv, r.Err, err)
	}
	return r.Code
}

// Kill kills the command and waits for the end of its output.
func (p *Process) Kill() {
	p.end.Do(func() {
		p.done.Close()
		_, _ = io.Copy(io.Discard, p.Out)
		p.pipe.Close()
	})
}
