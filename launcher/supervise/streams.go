// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/logs"
)

// drainTimeout is how long the log waits for the end of the streams once the
// container has ended. Only a process outside of it, to which the command handed a
// stream, can hold that open.
const drainTimeout = time.Second

// streams are those of a detached container: pipes to its log and from its
// consoles. A nil *streams is of a container that has its caller's.
type streams struct {
	in, out, err pipe // in and err may be missing
	log          *logs.Writer
	copying      sync.WaitGroup
}

// A pipe has an end that the container gets and one that stays here; both are nil
// if there is none.
type pipe struct{ theirs, ours *os.File }

// newStreams makes the pipes. A container with a terminal has one for its output.
func newStreams(input, tty bool) (_ *streams, err error) {
	s := &streams{}
	defer func() {
		if err != nil {
			s.close()
			err = fmt.Errorf("make the container's streams: %w", err)
		}
	}()
	if input {
		if s.in.theirs, s.in.ours, err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	if s.out.ours, s.out.theirs, err = os.Pipe(); err != nil {
		return nil, err
	}
	if !tty {
		if s.err.ours, s.err.theirs, err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// give puts the pipes into a container's Config.
func (s *streams) give(c *launcher.Config) {
	c.Stdin, c.Stdout, c.Stderr = s.in.theirs, s.out.theirs, s.err.theirs
}

// record begins to write the log in dir.
func (s *streams) record(dir string, size int64) (err error) {
	if s == nil {
		return nil
	}
	if s.log, err = logs.NewWriter(filepath.Join(dir, logs.File), size); err != nil {
		return err
	}
	// A pipe that cannot be read any more has lost its reader's end only.
	s.copying.Go(func() { _ = s.log.Copy(logs.Stdout, s.out.ours) })
	if s.err.ours != nil {
		s.copying.Go(func() { _ = s.log.Copy(logs.Stderr, s.err.ours) })
	}
	return nil
}

// input is where a console writes, nil if there is no input.
func (s *streams) input() io.Writer {
	if s == nil || s.in.ours == nil {
		return nil
	}
	return s.in.ours
}

// drain writes what the container has left in its pipes to the log. It must have
// ended.
func (s *streams) drain() {
	if s == nil {
		return
	}
	for _, p := range []pipe{s.out, s.err} {
		if p.theirs != nil {
			p.theirs.Close()
			_ = p.ours.SetReadDeadline(time.Now().Add(drainTimeout))
		}
	}
	s.copying.Wait()
	// A console may wait for room in the input.
	if s.in.ours != nil {
		s.in.ours.Close()
	}
}

// close closes all that is still open.
func (s *streams) close() {
	if s == nil {
		return
	}
	for _, p := range []pipe{s.in, s.out, s.err} {
		for _, f := range []*os.File{p.theirs, p.ours} {
			if f != nil {
				// Closing again is an error that says nothing.
				if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
					continue
				}
			}
		}
	}
	if s.log != nil {
		s.log.Close()
		s.log = nil
	}
}
