// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/state"
)

// Config says what to supervise. Store and Launch are needed.
type Config struct {
	Store *state.Store
	// Record is what is written down; Create fills in what it leaves out.
	Record state.Record
	// Again says that the container of Record.ID has ended, and is run again.
	Again bool
	// Launch is the container. Of a detached one the streams are replaced.
	Launch launcher.Config
	// Input gives a detached container's command an input that a console can write
	// to; otherwise it is /dev/null.
	Input bool
	// LogSize is the size in bytes of a file of the log; 0 is logs.DefaultSize.
	LogSize int64
	// Began is called, before anything is started, with the container as it is
	// written down, Started once its command runs, and Ended when it has ended and is
	// still held. Each may be nil. An error of Began ends the container.
	Began   func(*state.Held) error
	Started func(state.Record)
	Ended   func()
	// Log receives what happens; nil discards it.
	Log *slog.Logger
}

// A Supervisor runs one container, once.
type Supervisor struct {
	cfg     Config
	streams *streams
	ct      *launcher.Container
	held    *state.Held
}

// New checks cfg. The error is a launcher.ErrUsage if the user's words are at
// fault. Who gets no error calls Run.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Supervisor{cfg: cfg}
	started := cfg.Launch.Started
	cfg.Launch.Started = func(pid int) {
		s.started(pid)
		if started != nil {
			started(pid)
		}
	}
	var err error
	if cfg.Record.Detached {
		if s.streams, err = newStreams(cfg.Input, cfg.Launch.TTY); err != nil {
			return nil, err
		}
		s.streams.give(&cfg.Launch)
	}
	if s.ct, err = launcher.New(cfg.Launch); err != nil {
		s.streams.close()
		return nil, err
	}
	return s, nil
}

// Run runs the container to its end, as launcher.Container.Run does, whose results
// it returns.
func (s *Supervisor) Run(ctx context.Context) (code int, err error) {
	defer s.streams.close()
	if err := s.hold(); err != nil {
		return exitOurs, err
	}
	defer func() {
		err = errors.Join(err, s.held.Close())
	}()
	if s.cfg.Ended != nil {
		defer s.cfg.Ended()
	}
	if s.cfg.Began != nil {
		if err := s.cfg.Began(s.held); err != nil {
			return exitOurs, s.finish(exitOurs, err)
		}
	}
	if err := s.streams.record(s.held.LogDir(), s.cfg.LogSize); err != nil {
		return exitOurs, s.finish(exitOurs, err)
	}
	srv := &server{target: s.ct, input: s.streams.input(), tty: s.cfg.Launch.TTY, log: s.cfg.Log}
	if err := newServer(s.held.Dir(), srv); err != nil {
		return exitOurs, s.finish(exitOurs, err)
	}
	code, err = s.ct.Run(ctx)
	s.streams.drain()
	srv.close()
	return code, s.finish(code, err)
}

// Group is launcher.Container.Group of the container.
func (s *Supervisor) Group() string { return s.ct.Group() }

// exitOurs is the code of a container that slipway could not run.
const exitOurs = 125

// hold takes the container's record, a new one or that of one that has ended.
func (s *Supervisor) hold() (err error) {
	if !s.cfg.Again {
		s.held, err = s.cfg.Store.Create(s.cfg.Record)
		return err
	}
	s.held, err = s.cfg.Store.Reopen(s.cfg.Record.ID)
	return err
}

// OrderFile is the name, in the container's directory, of what launcher.Exec needs.
const OrderFile = "order"

// started notes that the command runs.
func (s *Supervisor) started(pid int) {
	if err := os.WriteFile(filepath.Join(s.held.Dir(), OrderFile), s.ct.Order(), 0o600); err != nil {
		s.cfg.Log.Warn("slipway exec cannot run commands in the container", "err", err)
	}
	if err := s.held.Running(pid); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.cfg.Log.Warn("the container is not shown as running", "err", err)
	}
	if s.cfg.Started != nil {
		s.cfg.Started(s.held.Record())
	}
}

// finish notes how the container ended, and returns err.
func (s *Supervisor) finish(code int, err error) error {
	e := state.Exit{Code: code}
	if err != nil {
		e.Error = err.Error()
	}
	if ferr := s.held.Finish(e); ferr != nil {
		return errors.Join(err, fmt.Errorf("container %s: %w", s.held.Record().ID, ferr))
	}
	return err
}
