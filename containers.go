// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-net/slipway/launcher/state"
	"github.com/spf13/pflag"
)

// openStore opens where the caller's containers are.
func openStore() (*state.Store, error) {
	return state.Open(state.RunDir(os.Getenv), state.DataDir(os.Getenv))
}

// parseFlags parses the words of a command. If it reports that the command is over,
// with the exit code, there was a call for help, which is printed, or a mistake.
func parseFlags(fs *pflag.FlagSet, args []string, synopsis, about string, stdout, stderr io.Writer) (code int, over bool) {
	err := fs.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		usage(stdout, fs, synopsis, about)
		return exitOK, true
	case err != nil:
		return report(stderr, fmt.Errorf("%w: %w", errUsage, err)), true
	}
	return exitOK, false
}

// wantContainers returns an error unless there are words for containers: least of
// them at least, and most at most, where most is not negative.
func wantContainers(fs *pflag.FlagSet, synopsis string, least, most int) error {
	if n := fs.NArg(); n < least || most >= 0 && n > most {
		return fmt.Errorf("%w: want the name or id of a container, as in: slipway %s", errUsage, synopsis)
	}
	return nil
}

// eachContainer calls do with every container that the words name, and joins what
// goes wrong into one error; others are done all the same.
func eachContainer(words []string, do func(*state.Store, *state.Container) error) error {
	store, err := openStore()
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range words {
		c, err := store.Find(w)
		if err == nil {
			err = do(store, c)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// findContainer returns the container that the word names.
func findContainer(word string) (*state.Store, *state.Container, error) {
	store, err := openStore()
	if err != nil {
		return nil, nil, err
	}
	c, err := store.Find(word)
	return store, c, err
}

// errNotRunning says that a container has no command to do something to.
func errNotRunning(c *state.Container) error {
	return fmt.Errorf("container %s is not running: it is %s", c.DisplayName(), c.Status)
}

// apiSocket returns the socket that a word of `slipway flows`, ports or pcap means: a
// path, or the container of that name or id.
func apiSocket(word string) (string, error) {
	if strings.Contains(word, "/") {
		return word, nil
	}
	store, c, err := findContainer(word)
	if errors.Is(err, state.ErrNotFound) {
		return word, nil // a socket in the working directory
	}
	if err != nil {
		return "", err
	}
	if c.Status != state.Running {
		return "", errNotRunning(c)
	}
	if err := errOfPlugins(c); err != nil {
		return "", err
	}
	name, _, err := socketPath(filepath.Join(store.Dir(c.ID), apiFile)) // open until the program ends
	return name, err
}
