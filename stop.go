// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/supervise"
	"golang.org/x/sys/unix"
)

const (
	stopSynopsis = "stop [flags] CONTAINER..."
	stopAbout    = `Asks the command of each CONTAINER to end, by the signal it was started with
(--stop-signal, else the image's, else SIGTERM), and kills it when it has not after a while. A
container that has ended is left as it is.`
	killSynopsis = "kill [flags] CONTAINER..."
	killAbout    = "Sends a signal to the command of each CONTAINER."
)

const (
	// defaultGrace is how many seconds a command has to end: as many as with Podman.
	defaultGrace = 10
	// endGrace is how long a container that was killed, whose streams and network
	// are still to be put away, has before its supervisor is killed.
	endGrace = 5 * time.Second
)

// runStop is `slipway stop`.
func runStop(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("stop")
	grace := fs.IntP("time", "t", defaultGrace, "`SECONDS` the command has to end before it is killed; -1 is forever")
	if code, over := parseFlags(fs, args, stopSynopsis, stopAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, stopSynopsis, 1, -1); err != nil {
		return report(stderr, err)
	}
	return report(stderr, eachContainer(fs.Args(), func(s *state.Store, c *state.Container) error {
		if err := stop(s, c, unix.Signal(c.StopSignal), *grace); err != nil {
			return err
		}
		fmt.Fprintln(stdout, c.DisplayName())
		return nil
	}))
}

// runKill is `slipway kill`.
func runKill(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("kill")
	word := fs.StringP("signal", "s", "KILL", "`SIGNAL` to send, by name or number")
	if code, over := parseFlags(fs, args, killSynopsis, killAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, killSynopsis, 1, -1); err != nil {
		return report(stderr, err)
	}
	sig, err := parseSignal(*word)
	if err != nil {
		return report(stderr, err)
	}
	return report(stderr, eachContainer(fs.Args(), func(s *state.Store, c *state.Container) error {
		if c.Status != state.Running {
			return errNotRunning(c)
		}
		ctx, cancel := context.WithTimeout(context.Background(), endGrace)
		defer cancel()
		client := supervise.NewClient(s.Dir(c.ID))
		if sig == unix.SIGKILL {
			err = client.Kill(ctx)
		} else {
			err = client.Signal(ctx, sig)
		}
		if err != nil {
			return fmt.Errorf("container %s: %w", c.DisplayName(), err)
		}
		fmt.Fprintln(stdout, c.DisplayName())
		return nil
	}))
}

// stop ends a container: by sig, and by force after as many seconds.
func stop(s *state.Store, c *state.Container, sig unix.Signal, seconds int) error {
	w, err := s.Watch(c)
	if err != nil {
		return err
	}
	defer w.Close()
	client := supervise.NewClient(s.Dir(c.ID))
	ctx, cancel := context.WithCancel(context.Background())
	if seconds >= 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	}
	defer cancel()
	if seconds != 0 {
		// A container that ends meanwhile, or does not answer, is seen below.
		_ = client.Signal(ctx, sig)
		if _, err := w.Wait(ctx); err == nil {
			return nil
		}
	}
	return end(w, client)
}

// end kills a container, and then what is left of it.
func end(w *state.Watch, client *supervise.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), endGrace)
	defer cancel()
	_ = client.Kill(ctx) // see stop
	_, err := w.Wait(ctx)
	if err == nil {
		return nil
	}
	if err := w.Kill(); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(context.Background(), endGrace)
	defer cancel()
	if _, err := w.Wait(ctx); errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the container's supervisor does not die: is it stopped in the kernel? See ps -o stat,wchan")
	}
	return nil
}
