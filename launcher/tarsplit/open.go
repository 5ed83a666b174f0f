// SPDX-License-Identifier: Apache-2.0

package tarsplit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/userns"
)

// StageName is the name of the stage (userns.Stage) that makes an archive; main calls
// Serve for it.
const StageName = "tarsplit"

// maxErrors is how much of what the stage says is kept, in bytes.
const maxErrors = 4 << 10

// Open begins to make the archive of the layer whose files are in the directory dir, and
// whose pieces are in the file list. The ids m are those under which the files have
// owners. The caller closes it; its end without an error is that of the archive.
func Open(ctx context.Context, m userns.Mapping, dir, list string) (io.ReadCloser, error) {
	pieces, err := openList(list)
	if err != nil {
		return nil, fmt.Errorf("read the headers of the layer: %w", err)
	}
	defer pieces.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer w.Close()
	a := &archive{r: r}
	ctx, a.stop = context.WithCancel(ctx)
	cmd := userns.Command(ctx, m, StageName)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, pieces, w, &a.said
	cmd.Namespaces = unix.CLONE_NEWNET | unix.CLONE_NEWIPC
	if err := cmd.Start(); err != nil {
		a.stop()
		r.Close()
		return nil, err
	}
	a.wait = sync.OnceValue(cmd.Wait)
	return a, nil
}

// openList opens the list of pieces, which is a file: a pipe could have it wait for good,
// and a link lead out of the storage.
func openList(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: it is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// An archive is what a stage writes.
type archive struct {
	r    *os.File
	said said
	stop context.CancelFunc
	wait func() error
}

// Read implements io.Reader. The end of the pipe is that of the archive if the stage
// says so.
func (a *archive) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if werr := a.wait(); werr != nil {
		return n, fmt.Errorf("read the layer: %w: %s", werr, bytes.TrimSpace(a.said.b))
	}
	return n, io.EOF
}

// Close implements io.Closer. It ends the stage.
func (a *archive) Close() error {
	a.stop()
	err := a.r.Close()
	_ = a.wait() // "signal: killed"
	return err
}

// said keeps the beginning of what the stage says.
type said struct{ b []byte }

func (s *said) Write(p []byte) (int, error) {
	s.b = append(s.b, p[:min(len(p), maxErrors-len(s.b))]...)
	return len(p), nil
}
