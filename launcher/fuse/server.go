// SPDX-License-Identifier: Apache-2.0

package fuse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// StageName is the name of the stage (userns.Stage) that becomes fuse-overlayfs; main
// calls Serve for it.
const StageName = "fuse"

// endGrace is how long fuse-overlayfs may take to end after its last mount is gone: it
// has closed its files by then, and what they hold is the kernel's to write.
const endGrace = 10 * time.Second

// goneGrace is how long a container may take to be gone when its last mount is.
const goneGrace = time.Second

// maxOutput is how much of what fuse-overlayfs says is kept for an error, in bytes.
const maxOutput = 4 << 10

// A Config says what is stacked. All paths are absolute.
type Config struct {
	Program     string         // fuse-overlayfs
	Connection  *os.File       // of the mount; it stays the caller's, who closes it after Start
	IDs         userns.Mapping // of the container
	Lowers      []string       // topmost first
	Upper, Work string
	Volatile    bool // what is written need not reach the disk
}

// A Server is a fuse-overlayfs that runs. One goroutine calls Wait.
type Server struct {
	cancel context.CancelFunc
	ended  chan error
}

// Start starts fuse-overlayfs. Each Server needs a Wait.
func Start(c Config) (*Server, error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cancel: cancel, ended: make(chan error, 1)}
	begun := make(chan error)
	go func() {
		// The process dies with the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		said := &head{}
		cmd := userns.Command(ctx, withCaller(c.IDs), StageName, c.words()...)
		cmd.ExtraFiles, cmd.Stdout, cmd.Stderr, cmd.Dir = []*os.File{c.Connection}, said, said, "/"
		cmd.Namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		err := cmd.Start()
		begun <- err
		if err != nil {
			return
		}
		if err = cmd.Wait(); err != nil {
			err = fmt.Errorf("fuse-overlayfs ended: %w: %s", err, said)
		}
		s.ended <- err
	}()
	if err := <-begun; err != nil {
		cancel()
		return nil, fmt.Errorf("start fuse-overlayfs: %w", err)
	}
	return s, nil
}

// Wait waits until fuse-overlayfs has ended, which it does by itself when its last mount
// is gone. If it has not a while after gone was closed it is killed. An error is one of
// the program, after which there is no root any more.
func (s *Server) Wait(gone <-chan struct{}) error {
	defer s.cancel()
	select {
	case err := <-s.ended:
		return early(err, gone)
	case <-gone:
	}
	t := time.NewTimer(endGrace)
	defer t.Stop()
	select {
	case err := <-s.ended:
		return err
	case <-t.C:
		s.cancel()
		<-s.ended
		return fmt.Errorf("fuse-overlayfs did not end within %v of its container", endGrace)
	}
}

// early is the error of an end with err before gone was seen to be closed. Without an
// error the last mount is gone, and whoever had it is about to be, unless somebody has
// ended the program.
func early(err error, gone <-chan struct{}) error {
	if err != nil {
		return err
	}
	t := time.NewTimer(goneGrace)
	defer t.Stop()
	select {
	case <-gone:
		return nil
	case <-t.C:
		return errors.New("fuse-overlayfs ended, and its container had not")
	}
}

// Names of the words that the stage gets before those of the lower layers.
const (
	wordProgram = iota
	wordVolatile
	wordUpper
	wordWork
	words
)

// words are those of the stage.
func (c Config) words() []string {
	volatile := ""
	if c.Volatile {
		volatile = "volatile"
	}
	return append([]string{wordProgram: c.Program, wordVolatile: volatile, wordUpper: c.Upper, wordWork: c.Work}, c.Lowers...)
}

// strangerID is what the caller is called where the container does not have its ids: the
// greatest id but the one that stands for nobody. No file can be given to it there.
const strangerID = 1<<32 - 3

// withCaller is m with the caller's own ids besides, so that the stage, which has the
// rights of all ids in it, gets through the caller's directories to the layers.
func withCaller(m userns.Mapping) userns.Mapping {
	return userns.Mapping{UIDs: withID(m.UIDs, os.Geteuid()), GIDs: withID(m.GIDs, os.Getegid())}
}

func withID(ranges []userns.Range, id int) []userns.Range {
	for _, r := range ranges {
		if uint32(id)-r.Outside < r.Size {
			return ranges
		}
	}
	return append(ranges[:len(ranges):len(ranges)], userns.Range{Inside: strangerID, Outside: uint32(id), Size: 1})
}

// A head keeps the beginning of what a process says, which is where the reason is.
type head struct{ b []byte }

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), maxOutput-len(h.b))]...)
	return len(p), nil
}

// String is what was said, in one line and without what every run says.
func (h *head) String() string {
	var lines []string
	for l := range strings.Lines(string(h.b)) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "unknown argument ignored") {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "; ")
}
