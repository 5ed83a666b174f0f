// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/userns"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// rootVariable is the environment variable that stands for --root.
const rootVariable = "SLIPWAY_ROOT"

// storageFlags are the flags of every command that has to do with images.
type storageFlags struct {
	root string
}

func (f *storageFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.root, "root", "", "directory of images and containers (default $"+rootVariable+" or ~/.local/share/slipway)")
}

// dir is the directory of the store.
func (f *storageFlags) dir() (string, error) {
	dir := f.root
	if dir == "" {
		dir = os.Getenv(rootVariable)
	}
	if dir == "" {
		data := os.Getenv("XDG_DATA_HOME")
		if data == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return "", fmt.Errorf("find the directory of images: %w: set HOME or give --root", err)
			}
			data = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(data, "slipway")
	}
	return filepath.Abs(dir)
}

// open opens the store. Without subordinate ids its files are all the caller's.
func (f *storageFlags) open(log *slog.Logger) (*store.Store, error) {
	dir, err := f.dir()
	if err != nil {
		return nil, err
	}
	c, err := userns.Load()
	if err != nil {
		return nil, err
	}
	m, err := c.Default()
	if errors.Is(err, userns.ErrNoSubIDs) {
		log.Warn("files of images are all yours, as you have no other ids", "err", err)
		m = c.Single()
	} else if err != nil {
		return nil, err
	}
	return store.Open(store.Config{Dir: dir, Mapping: m, Log: log})
}

// A storageCommand is a command that has to do with images and nothing else.
type storageCommand struct {
	storageFlags
	fs       *pflag.FlagSet
	synopsis string
	about    string
	stdout   io.Writer
	stderr   io.Writer
	log      *slog.Logger
}

func newStorageCommand(name, synopsis, about string, stdout, stderr io.Writer) *storageCommand {
	c := &storageCommand{fs: newFlagSet(name), synopsis: synopsis, about: about, stdout: stdout, stderr: stderr}
	c.log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	return c
}

// run parses the flags and does the work on an open store, until a signal comes that
// asks to end.
func (c *storageCommand) run(args []string, least, most int, work func(ctx context.Context, s *store.Store, words []string) error) int {
	c.add(c.fs)
	if err := c.fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			usage(c.stdout, c.fs, c.synopsis, c.about)
			return exitOK
		}
		return report(c.stderr, fmt.Errorf("%w: %w", errUsage, err))
	}
	if n := c.fs.NArg(); n < least || most >= 0 && n > most {
		return report(c.stderr, fmt.Errorf("%w: %d arguments: want: slipway %s", errUsage, n, c.synopsis))
	}
	s, err := c.open(c.log)
	if err != nil {
		return report(c.stderr, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err = work(ctx, s, c.fs.Args())
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return report(c.stderr, err)
}

// progress shows on standard error how far images are, unless that is to be quiet.
func newProgress(stderr io.Writer, quiet bool) *image.Progress {
	if quiet {
		return nil
	}
	f, ok := stderr.(*os.File)
	return image.NewProgress(stderr, ok && isTTY(f))
}

func isTTY(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
