// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// selfExe is this program. Unlike its path, the link can be followed by a plain
// user when the file lies in a directory of root's, as that of `go run` does.
const selfExe = "/proc/self/exe"

// stopTime is how long the stage may take to clean up before it is killed; launchStopTime
// that of container engines, which removes all images that were pulled: 7 s each, at worst.
const (
	stopTime       = 5 * time.Second
	launchStopTime = 3 * time.Minute
)

// A front is the part of the bench that the user started.
type front struct {
	opts     Options
	report   Report
	progress *progress
	scratch  string // holds copies of programs for the plain user; empty if none
	fatal    string
	said     map[string]bool // errors that were shown already
	out      io.Writer       // takes the table of a soak
	checks   []soakCheck     // the end of a soak
	home     *place          // starts the stage, whose life hangs on its thread
	answers  io.Writer       // to what the stage asks
}

// runFront measures what the options ask for and prints the report to out. Where
// ctx is cancelled it reports what there is.
func runFront(ctx context.Context, o Options, args []string, out, progressOut io.Writer) error {
	f := &front{opts: o, said: map[string]bool{}, home: newPlace()}
	defer f.cleanup()
	f.report = Report{Began: time.Now(), CommandLine: concat([]string{"bench"}, args[1:]), Machine: describeMachine(), Plan: o.Plan}
	f.report.Machine.Warnings = f.report.Machine.warnings(o.Plan)
	cred, err := f.prepare()
	if err != nil {
		return err
	}
	for _, w := range f.report.Machine.Warnings {
		fmt.Fprintf(progressOut, "warning: %s\n", w)
	}
	f.progress = newProgress(progressOut, o.Plan.Limit)
	err = f.runStages(ctx, cred)
	f.progress.end()
	if err != nil {
		return err
	}
	if f.fatal != "" {
		return fmt.Errorf("the stage failed: %s", f.fatal)
	}
	r := &f.report
	for i := range r.Plan.Subjects {
		if s := &r.Plan.Subjects[i]; s.Path != "" {
			s.Path = filepath.Base(s.Path)
		}
	}
	r.Plan.Program = ""
	r.Took = time.Since(r.Began).Round(time.Second).String()
	r.Interrupted = ctx.Err() != nil
	r.Machine.Load = append(r.Machine.Load, loadAverage())
	r.Cells = MakeCells(r.Plan, r.Records)
	return f.publish(out)
}

// publish prints the report and writes the files that were asked for.
func (f *front) publish(out io.Writer) error {
	if err := printReport(out, &f.report); err != nil {
		return err
	}
	if f.opts.Out != "" {
		path, err := f.report.save(f.opts.Out)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "\nraw numbers: %s\n", path)
	}
	if f.opts.HTML == "" {
		return nil
	}
	if err := writeHTML(f.opts.HTML, &f.report); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "page with plots: %s\n", f.opts.HTML)
	return err
}

// showResults shows results that were kept, as a page or as text.
func showResults(o Options, out io.Writer) error {
	r, err := newestReport(o.From, o.wanted())
	if err != nil {
		return err
	}
	if o.HTML != "" {
		return writeHTML(o.HTML, r)
	}
	return printReport(out, r)
}

// wanted says which results of a directory to show: with -launch those of container
// engines, else those of network helpers.
func (o Options) wanted() func(*Report) bool {
	return func(r *Report) bool { return isLaunch(r) == (o.Plan.Launch != nil) }
}

// prepare finds out what would otherwise show only after the run, and returns the
// credential of the plain user to run as, nil where we are one already.
func (f *front) prepare() (*syscall.Credential, error) {
	if f.opts.Out != "" {
		if err := checkOut(resultPath(f.opts.Out)); err != nil {
			return nil, err
		}
	}
	if err := f.opts.Plan.Pin.check(allowedCPUs(os.Getpid())); err != nil {
		return nil, err
	}
	cred, err := f.becomeUser()
	if err != nil {
		return nil, err
	}
	if isLaunch(&f.report) {
		if err := f.prepareLaunch(cred); err != nil {
			return nil, err
		}
	}
	return cred, f.locate(cred)
}

// becomeUser returns the credential of the plain user to run as, nil where we are
// one already.
func (f *front) becomeUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	return plainUser(f.opts.User)
}

// plainUser returns the credential of the user, which must not be root.
func plainUser(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("become a plain user: %w: choose another with -user", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("become user %q: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("become user %q: %w", u.Username, err)
	}
	if uid == 0 {
		return nil, fmt.Errorf("become user %q: that is root, who would hide what a plain user lacks: choose another with -user", u.Username)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// locate finds the subjects' programs. As root it copies those that are given by
// path, which the plain user may not be able to reach, and the bench itself.
func (f *front) locate(cred *syscall.Credential) error {
	p := &f.report.Plan
	for i := range p.Subjects {
		s := &p.Subjects[i]
		byPath := s.Path != "" || s.Tool == "slipway"
		s.locate()
		if s.Missing != "" {
			continue
		}
		if cred != nil && byPath {
			to, err := f.copyForUser(strconv.Itoa(i), s.Path, filepath.Base(s.Path))
			if err != nil {
				return err
			}
			s.Path = to
		}
		if tools()[s.Tool].ready != readyByAnswer || p.Program != "" {
			continue
		}
		self, err := os.Executable()
		if err == nil && cred != nil {
			self, err = f.copyForUser("self", selfExe, "bench")
		}
		if err != nil {
			return fmt.Errorf("find this program for %s to run: %w", s.Name, err)
		}
		p.Program = self
	}
	return nil
}

// copyForUser copies the program to dir/name in the scratch directory, which it
// makes where there is none, and returns its path.
func (f *front) copyForUser(dir, from, name string) (string, error) {
	if f.scratch == "" {
		scratch, err := os.MkdirTemp("", "slipway-bench-bin-")
		if err != nil {
			return "", fmt.Errorf("copy programs: %w", err)
		}
		f.scratch = scratch
		if err := os.Chmod(scratch, 0o755); err != nil {
			return "", fmt.Errorf("copy programs: %w", err)
		}
	}
	to := filepath.Join(f.scratch, dir, name)
	if err := os.Mkdir(filepath.Dir(to), 0o755); err != nil {
		return "", fmt.Errorf("copy programs: %w", err)
	}
	return to, copyProgram(to, from)
}

// copyPiece is how much cp(1) and install(1) write at a time. What is written at once is
// one piece of the page cache, and Linux 6.18 maps whole pieces: a program that was
// written in one go has all of itself in memory when it runs, needed or not.
const copyPiece = 128 << 10

func copyPieces(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk(b, copyPiece) {
		if _, err := f.Write(piece); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

func copyProgram(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	if err := copyPieces(to, from); err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	// The time of the file is part of the version that the report names.
	if err := os.Chtimes(to, info.ModTime(), info.ModTime()); err != nil {
		return fmt.Errorf("copy program: %w", err)
	}
	return nil
}

// runStages starts the stage by way of the user process and takes its events.
func (f *front) runStages(ctx context.Context, cred *syscall.Credential) error {
	cmd := exec.Command(selfExe, f.firstStage(cred)...)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	// A group of its own: Ctrl-C reaches the front only, which stops the rest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGTERM, Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the stage: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start the stage: %w", err)
	}
	if err := f.home.start(cmd); err != nil {
		return fmt.Errorf("start the stage: %w", err)
	}
	f.answers = in
	stop := context.AfterFunc(ctx, func() {
		cmd.Process.Signal(unix.SIGTERM)
		limit := stopTime
		if isLaunch(&f.report) {
			limit = launchStopTime
		}
		time.AfterFunc(limit, func() { cmd.Process.Kill() })
	})
	defer stop()
	sent := json.NewEncoder(in).Encode(f.report.Plan)
	f.take(ctx, out)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil, f.fatal != "": // a stage that could not begin does not read the plan
	case sent != nil:
		return errors.Join(fmt.Errorf("send the plan to the stage: %w", sent), err)
	case err != nil:
		return fmt.Errorf("the stage failed: %w", err)
	}
	return nil
}

// firstStage is the arguments of the process to start.
func (f *front) firstStage(cred *syscall.Credential) []string {
	switch {
	case !isLaunch(&f.report):
		return []string{stageUser}
	case cred != nil:
		return []string{stageLaunch, byRoot}
	}
	return []string{stageLaunch}
}

// take handles the stage's events until it ends.
func (f *front) take(ctx context.Context, out io.Reader) {
	events := json.NewDecoder(bufio.NewReader(out))
	for {
		var e event
		if err := events.Decode(&e); err != nil {
			return
		}
		switch {
		case e.Subjects != nil:
			f.report.Plan.Subjects, f.report.Plan.Gaps = e.Subjects, e.Gaps
			f.report.Estimate = f.report.Plan.Estimate()
			f.progress.announce(f.report.Plan.announcement())
			f.progress.setTotal(f.report.Estimate.Steps, f.report.Estimate.All)
		case e.Begin != "":
			f.progress.begin(e.Begin, e.Price)
		case e.Record != nil:
			f.report.Records = append(f.report.Records, *e.Record)
			f.report.Machine.note(e.Record.CPUs)
			shown := *e.Record
			if key := shown.Subject + ": " + shown.Err; f.said[key] || strings.HasSuffix(shown.Err, leftOutOfQuick) {
				shown.Err = "" // one line for a helper that was given up is enough, none for what was asked for
			} else {
				f.said[key] = true
			}
			f.progress.done(&shown)
		case e.LeftOut:
			f.report.LeftOut++
			f.progress.skip(e.Price)
		case e.Trace != nil:
			f.answerTrace(ctx, *e.Trace)
		case e.Sample != nil:
			f.sample(*e.Sample)
		case e.Checks != nil:
			f.checks = e.Checks
		case e.Fatal != "":
			f.fatal = e.Fatal
		}
	}
}

func (f *front) cleanup() {
	f.home.close()
	if f.scratch != "" {
		os.RemoveAll(f.scratch)
	}
}
