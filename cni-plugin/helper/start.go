// SPDX-License-Identifier: Apache-2.0

package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Name is the program's, and Word that of the command which is a helper.
const (
	Name = "slipway"
	Word = "attach"
)

// Descriptors of a helper besides the standard streams, in order.
const (
	readyFD = 3
	lockFD  = 4 // closed when the pidfile is locked
	dirFD   = 5 // of SpawnIn
)

// usualPath is where the program is looked for where PATH is not set, and what the
// helper gets as PATH.
const usualPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

// maxLog bounds what is read of the log of a helper that has failed (bytes, from the
// end), and logLines what is told of it.
const (
	maxLog   = 4 << 10
	logLines = 5
)

// ErrNotReady is matched, by errors.Is, by the error which says that the helper took too
// long.
var ErrNotReady = errors.New("the helper did not get ready in time")

// An Failed is the error of a helper that ended before it was ready.
type Failed struct {
	Reason string // its last line
	Log    string // the last lines of its log
}

// Error implements error.
func (f *Failed) Error() string { return "the helper could not start: " + f.Reason }

// Program returns the path of the program: the configured one, or that beside the
// plugin, or the first in PATH.
func Program(configured string) (string, error) {
	if configured != "" {
		if err := unix.Access(configured, unix.X_OK); err != nil {
			return "", fmt.Errorf("helperPath %s: %w", configured, err)
		}
		return configured, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), Name)
		if unix.Access(beside, unix.X_OK) == nil {
			return beside, nil
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH") + ":" + usualPath) {
		if path := filepath.Join(dir, Name); filepath.IsAbs(path) && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s beside the plugin or in PATH: install it there, or set helperPath", Name)
}

// A Start says how to start a helper. All fields but functions are needed.
type Start struct {
	Program string
	Args    []string // of `slipway attach`, but for those about descriptors and files, and the namespace
	NetNS   string   // the namespace's path
	PidFile string
	API     string
	Log     string
	Lock    *os.File // inherited until the helper has locked its pidfile
	// Started, if not nil, is called with the process, a child of ours, while that makes
	// the network. Its error is written to the log when the network is up.
	Started func(ctx context.Context, pid int) error
	// Elsewhere, if not nil, has somebody else start the process, with the log and the
	// pipe to say ready by.
	Elsewhere func(ctx context.Context, log, ready *os.File) error
}

// Run starts the helper and returns when its network is up. The process goes on for
// itself. If ctx is done before, or there is an error, it is no more; the error matches
// ErrNotReady then, or is a *Failed.
func (s Start) Run(ctx context.Context) error {
	log, err := os.OpenFile(s.Log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the helper's log: %w", err)
	}
	defer log.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe for the helper: %w", err)
	}
	defer ready.Close()
	kill, pid, err := s.begin(ctx, log, theirs)
	theirs.Close()
	if err != nil {
		return err
	}
	var aside error
	if s.Started != nil && pid != 0 {
		aside = s.Started(ctx, pid)
	}
	if err := await(ctx, ready); err != nil {
		kill()
		_ = Remove(s.PidFile, s.API)
		if errors.Is(err, io.EOF) {
			return failed(s.Log)
		}
		return err
	}
	if aside != nil {
		fmt.Fprintf(log, "%s: %v\n", Name, aside) // before, it could be taken for the reason of a failure
	}
	return nil
}

// begin starts the process, here or elsewhere, and returns what kills it, and its id if
// it is our child.
func (s Start) begin(ctx context.Context, log, ready *os.File) (kill func(), pid int, err error) {
	if s.Elsewhere != nil {
		return s.stopElsewhere, 0, s.Elsewhere(ctx, log, ready)
	}
	proc, err := s.spawn(log, ready, nil, s.NetNS)
	if err != nil {
		return nil, 0, err
	}
	return func() {
		_ = proc.Kill() // it is our child: nobody else has its number
		_, _ = proc.Wait()
	}, proc.Pid, nil
}

// stopElsewhere ends a process that is not our child. One that has not locked its pidfile
// yet finds nobody who waits for it to be ready, and ends by itself.
func (s Start) stopElsewhere() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // at once by force
	if r, err := Find(s.PidFile); err == nil && r != nil {
		_ = r.Stop(ctx)
		r.Close()
	}
}

// SpawnIn starts the process for a namespace that has the name in the directory, which
// need not be in our sight. All files stay the caller's.
func (s Start) SpawnIn(dir *os.File, name string, log, ready *os.File) (*os.Process, error) {
	return s.spawn(log, ready, []*os.File{dir}, fmt.Sprintf("/proc/self/fd/%d/%s", dirFD, name))
}

func (s Start) spawn(log, ready *os.File, more []*os.File, netns string) (*os.Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("start the helper: %w", err)
	}
	defer null.Close()
	argv := append([]string{Name, Word, "--ready-fd", fmt.Sprint(readyFD), "--pidfile", s.PidFile, "--api", s.API}, s.Args...)
	argv = append(argv, "--", netns)
	proc, err := os.StartProcess(s.Program, argv, &os.ProcAttr{
		Dir:   "/",
		Env:   environment(),
		Files: append([]*os.File{null, log, log, ready, s.Lock}, more...),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start the helper: %w", err)
	}
	return proc, nil
}

// environment is all that a helper may know of the runtime's.
func environment() []string {
	env := []string{"PATH=" + usualPath}
	for _, name := range []string{"LANG", "TZ", "GODEBUG"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// await reads the byte by which the helper says that its network is up. io.EOF means
// that it has ended.
func await(ctx context.Context, ready *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.ReadFull(ready, make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrNotReady, context.Cause(ctx))
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("wait for the helper: %w", err)
	}
	return nil
}

// failed tells what the log's end says.
func failed(path string) error {
	text := LogTail(path)
	lines := strings.Split(text, "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], Name+": ")
	if last == "" {
		last = "it said nothing; was it killed?"
	}
	return &Failed{Reason: last, Log: text}
}

// LogTail returns the last lines of a helper's log, "" where there is none.
func LogTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-maxLog), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(f, maxLog))
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}
