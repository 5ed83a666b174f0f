// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settleWait is how long a process that an engine left in the background may take to
	// end. What lives longer belongs to the engine, as Podman's process that holds its
	// namespaces does, and stays until the run is over.
	settleWait = time.Second
	settleLook = time.Millisecond
)

// programName is the program's path in the containers.
const programName = "/bin/true"

// enginePath is where the engines and what they run are looked for.
const enginePath = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

// A yard is what a plain user's engines run in: places of their own for what they
// keep, an environment that names them, and the root that their containers have. It is
// used by one goroutine.
type yard struct {
	dir    string // on the disk; everything else that outlives a process is below
	memory string // XDG_RUNTIME_DIR, in memory where the machine has such a place
	rootfs string
	limit  time.Duration // of one run of a container
	line   string        // that the program writes
	env    []string
	home   *place // whose children the engines are
	tracer tracer
	stays  map[int]bool     // processes that engines keep
	ready  map[string]error // what came of preparing each subject
	// refused is why a subject's case is not tried again: no container of it could be
	// looked at.
	refused map[string]error
	runs    int
}

// newYard makes the places. Close removes them.
func newYard(plan LaunchPlan, limit time.Duration, t tracer) (*yard, error) {
	y := &yard{tracer: t, limit: limit, home: newPlace(), stays: map[int]bool{}, ready: map[string]error{}, refused: map[string]error{}}
	if err := y.make(plan); err != nil {
		return nil, errors.Join(err, y.close())
	}
	return y, nil
}

func (y *yard) make(plan LaunchPlan) error {
	var err error
	if y.dir, err = os.MkdirTemp(plan.Dir, "slipway-launch-"); err != nil {
		return fmt.Errorf("make a place for images and containers: %w: choose another by -dir", err)
	}
	if y.memory, err = memoryDir(y.dir); err != nil {
		return err
	}
	secret := make([]byte, 16)
	_, _ = rand.Read(secret) // never fails
	y.line = hex.EncodeToString(secret)
	program, err := makeProgram(runtime.GOARCH, y.line+"\n")
	if err != nil {
		return err
	}
	y.rootfs = filepath.Join(y.dir, "rootfs")
	for _, name := range [...]string{"bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"} {
		if err := os.MkdirAll(filepath.Join(y.rootfs, name), 0o755); err != nil {
			return fmt.Errorf("make the containers' root: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(y.rootfs, programName), program, 0o755); err != nil {
		return fmt.Errorf("make the containers' root: %w", err)
	}
	for _, name := range [...]string{"home", "tmp"} {
		if err := os.Mkdir(filepath.Join(y.dir, name), 0o700); err != nil {
			return fmt.Errorf("make a place for images and containers: %w", err)
		}
	}
	// Podman is configured as for the cases of pull/. It reads this for its version even.
	for name, text := range map[string]string{
		"containers.conf": fmt.Sprintf(containersFormat, "slirp4netns"),
		"storage.conf":    storageText,
	} {
		if err := os.WriteFile(filepath.Join(y.dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("configure Podman: %w", err)
		}
	}
	y.env = []string{
		"PATH=" + enginePath, "HOME=" + filepath.Join(y.dir, "home"), "TMPDIR=" + filepath.Join(y.dir, "tmp"), "XDG_RUNTIME_DIR=" + y.memory,
		"CONTAINERS_CONF=" + filepath.Join(y.dir, "containers.conf"), "CONTAINERS_STORAGE_CONF=" + filepath.Join(y.dir, "storage.conf"),
	}
	return nil
}

// settleIn gives this process the yard's environment, and nothing of its own: what it
// asks engines for must not find what the user keeps.
func (y *yard) settleIn() {
	os.Clearenv()
	for _, e := range y.env {
		key, value, _ := strings.Cut(e, "=")
		_ = os.Setenv(key, value) // fails for a malformed key only
	}
}

// memoryDir makes a directory for what engines keep until the next boot: where the
// user's own is, or any in memory, or else below dir.
func memoryDir(dir string) (string, error) {
	var errs []error
	for _, at := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm", dir} {
		if at == "" {
			continue
		}
		made, err := os.MkdirTemp(at, "slipway-launch-")
		if err == nil {
			return made, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("make a place for the engines' state: %w", errors.Join(errs...))
}

// close ends what engines keep, and removes the places.
func (y *yard) close() error {
	err := endOrphans()
	y.home.close()
	for _, dir := range [...]string{y.dir, y.memory} {
		if dir != "" {
			err = errors.Join(err, removeAll(dir))
		}
	}
	return err
}

// prepare makes, once, what the subject's containers run from.
func (y *yard) prepare(ctx context.Context, s Subject) error {
	err, done := y.ready[s.Name]
	if !done {
		if make := tools()[s.Tool].engine; make != nil && make.prepare != nil {
			err = make.prepare(ctx, y, s)
		}
		y.ready[s.Name] = err
	}
	return err
}

// argv returns the command line of a new container.
func (y *yard) argv(s Subject, network, hold bool) []string {
	if s.Tool == directName {
		return []string{filepath.Join(y.rootfs, programName), y.line}
	}
	y.runs++
	c := container{yard: y, Name: "bench" + strconv.Itoa(y.runs), Network: network, Hold: hold, Extra: s.Extra}
	return concat([]string{s.Path}, tools()[s.Tool].engine.run(c))
}

// start runs a container and returns how long that took. Its program has run, or there
// is an error.
func (y *yard) start(ctx context.Context, s Subject, network bool) (time.Duration, error) {
	r, err := y.command(ctx, y.limit, y.argv(s, network, false), nil)
	if err != nil {
		return 0, err
	}
	defer r.out.Close()
	err = r.wait()
	if err = errors.Join(err, y.settle()); err != nil {
		return 0, err
	}
	return r.took, r.proveLine(y.line)
}

// do runs a command of an engine for at most limit and returns what it used.
func (y *yard) do(ctx context.Context, limit time.Duration, argv ...string) (usage, error) {
	before, err := childrenCPU()
	if err != nil {
		return usage{}, err
	}
	r, err := y.command(ctx, limit, argv, nil)
	if err != nil {
		return usage{}, err
	}
	defer r.out.Close()
	err = r.wait()
	if err = errors.Join(err, y.settle()); err != nil {
		return usage{}, err
	}
	after, err := childrenCPU()
	return usage{Time: r.took, CPU: after - before}, err
}

// A usage is what a command took.
type usage struct {
	Time time.Duration
	CPU  float64 // seconds, of all its processes that have ended
}

// childrenCPU returns the CPU time of all processes that we have waited for, and that
// they have (getrusage(2)).
func childrenCPU() (float64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		return 0, fmt.Errorf("read the CPU time of what has ended: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}

// A launched is a running command of an engine.
type launched struct {
	cmd    *exec.Cmd
	ctx    context.Context
	cancel context.CancelFunc
	out    *os.File // what it writes, both streams, in memory
	limit  time.Duration
	began  time.Time
	took   time.Duration
}

// command starts a command with the yard's environment, in a session of its own, which
// is killed after limit. Its standard input is empty unless there is one. The caller
// waits for it, and then closes its output.
func (y *yard) command(ctx context.Context, limit time.Duration, argv []string, in *os.File) (*launched, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("keep the output of %s: %w", argv[0], err)
	}
	r := &launched{out: os.NewFile(uintptr(fd), "output"), limit: limit}
	r.ctx, r.cancel = context.WithTimeout(ctx, limit)
	r.cmd = exec.CommandContext(r.ctx, argv[0], argv[1:]...)
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = y.dir, y.env, r.out, r.out
	if in != nil {
		r.cmd.Stdin = in
	}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	r.began = time.Now()
	if err := y.home.start(r.cmd); err != nil {
		r.cancel()
		r.out.Close()
		return nil, fmt.Errorf("start %s: %w", filepath.Base(argv[0]), err)
	}
	return r, nil
}

// wait waits for the command's end, which must be a good one.
func (r *launched) wait() error {
	defer r.cancel()
	err := r.cmd.Wait()
	r.took = time.Since(r.began)
	if r.ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %s", r.limit)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(r.cmd.Path), err, r.said())
	}
	return nil
}

// output returns the beginning of what the command wrote.
func (r *launched) output() string {
	b := make([]byte, maxHead)
	n, err := r.out.ReadAt(b, 0)
	if err != nil && n == 0 {
		return ""
	}
	return string(b[:n])
}

// said is the last line of it, for messages.
func (r *launched) said() string {
	if text := excerpt(lastLine(r.output())); text != "" {
		return text
	}
	return "(it printed nothing)"
}

// settle waits until what engines left in the background has ended, and takes what does
// not end for theirs.
func (y *yard) settle() error {
	for end := time.Now().Add(settleWait); ; {
		pids, err := children(os.Getpid())
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool {
			got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
			return got == pid || errors.Is(err, unix.ECHILD) || y.stays[pid]
		})
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(end) {
			for _, pid := range pids {
				y.stays[pid] = true
			}
			return nil
		}
		time.Sleep(settleLook)
	}
}
