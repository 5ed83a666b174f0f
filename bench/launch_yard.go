// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// programName is the program's path in the containers.
const programName = "/bin/true"

// enginePath is where the engines and what they run are looked for.
const enginePath = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

// rootDirs are the directories of the containers' root.
var rootDirs = [...]string{"bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"}

// A yard is what a plain user's engines run in: places of their own for what they
// keep, an environment that names them, and the root that their containers have. It is
// used by one goroutine.
type yard struct {
	dir     string // on the disk; everything else that outlives a process is below
	memory  string // XDG_RUNTIME_DIR, in memory where the machine has such a place
	rootfs  string
	limit   time.Duration // of one run of a container
	program []byte        // see launch_program.go
	line    string        // that the program writes
	env     []string
	home    *place // whose children the engines are
	tracer  tracer
	plan    LaunchPlan
	stays   map[int]bool     // processes that engines keep
	ready   map[string]error // what came of preparing each subject
	// refused is why a subject's case is not tried again: no container of it could be
	// looked at.
	refused  map[string]error
	pulled   map[string]bool   // subjects whose store has the image as it was pulled
	stores   map[string]string // the store of each subject that was pulled into last
	registry *registry         // nil until something is pulled
	runs     int
}

// newYard makes the places. Close removes them.
func newYard(plan LaunchPlan, limit time.Duration, t tracer) (*yard, error) {
	y := &yard{
		tracer: t, limit: limit, plan: plan, home: newPlace(),
		stays: map[int]bool{}, ready: map[string]error{}, refused: map[string]error{}, pulled: map[string]bool{}, stores: map[string]string{},
	}
	if err := y.make(); err != nil {
		return nil, errors.Join(err, y.close())
	}
	return y, nil
}

func (y *yard) make() error {
	var err error
	if y.dir, err = os.MkdirTemp(y.plan.Dir, "slipway-launch-"); err != nil {
		return fmt.Errorf("make a place for images and containers: %w: choose another by -dir", err)
	}
	spread(y.dir)
	if y.memory, err = memoryDir(y.dir); err != nil {
		return err
	}
	secret := make([]byte, 16)
	_, _ = rand.Read(secret) // never fails
	y.line = hex.EncodeToString(secret)
	if y.program, err = makeProgram(runtime.GOARCH, y.line+"\n"); err != nil {
		return err
	}
	y.rootfs = filepath.Join(y.dir, "rootfs")
	for _, name := range rootDirs {
		if err := os.MkdirAll(filepath.Join(y.rootfs, name), 0o755); err != nil {
			return fmt.Errorf("make the containers' root: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(y.rootfs, programName), y.program, 0o755); err != nil {
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
	if y.registry != nil {
		err = errors.Join(err, y.registry.close())
	}
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
		return []string{y.rootfs + programName, y.line}
	}
	c := y.container(s)
	c.Network, c.Hold = network, hold
	return concat([]string{s.Path}, tools()[s.Tool].engine.run(c))
}

// container is a new one of the subject's.
func (y *yard) container(s Subject) container {
	y.runs++
	return container{yard: y, Name: "bench" + strconv.Itoa(y.runs), Path: s.Path, Store: y.storeOf(s), Extra: s.Extra}
}

// start runs a container and returns how long that took. Its program has run, or there
// is an error.
func (y *yard) start(ctx context.Context, s Subject, network bool) (time.Duration, error) {
	u, err := y.do(ctx, y.limit, y.argv(s, network, false)...)
	if err != nil {
		return 0, err
	}
	return u.Time, u.proveLine(y.line)
}
