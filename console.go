// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/logs"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/supervise"
	"golang.org/x/sys/unix"
)

const (
	consoleSynopsis = "console [flags] CONTAINER"
	consoleAbout    = `Joins this terminal to the streams of a detached CONTAINER (which other tools
call attaching to it): what it writes from now on is shown, and what is typed goes
to it if it was started with -i. Several consoles may be open. The detach keys leave
it running; at its end its exit code is passed on.`
)

// runConsole is `slipway console`.
func runConsole(args []string, stdout, stderr io.Writer) int {
	fs := newFlagSet("console")
	word := fs.String("detach-keys", defaultDetachKeys, "`KEYS` that leave the container, typed one after the other; empty for none")
	noStdin := fs.Bool("no-stdin", false, "pass nothing that is typed")
	if code, over := parseFlags(fs, args, consoleSynopsis, consoleAbout, stdout, stderr); over {
		return code
	}
	if err := wantContainers(fs, consoleSynopsis, 1, 1); err != nil {
		return report(stderr, err)
	}
	keys, err := parseDetachKeys(*word)
	if err != nil {
		return report(stderr, err)
	}
	store, c, err := findContainer(fs.Arg(0))
	if err == nil && c.Status != state.Running {
		err = errNotRunning(c)
	}
	if err == nil && !c.Detached {
		err = fmt.Errorf("container %s was started in the foreground: its streams are those of its terminal", c.DisplayName())
	}
	if err != nil {
		return report(stderr, err)
	}
	v := viewer{store: store, c: c, client: supervise.NewClient(store.Dir(c.ID)), keys: keys, stdout: stdout, stderr: stderr}
	if !*noStdin {
		v.stdin = os.Stdin
	}
	code, err := v.run(context.Background())
	if err != nil {
		return report(stderr, err)
	}
	return code
}

// A viewer is an open console.
type viewer struct {
	store          *state.Store
	c              *state.Container
	client         *supervise.Client
	keys           []byte
	stdin          *os.File // nil for none
	stdout, stderr io.Writer
}

// run shows the console until the container ends, whose exit code it returns, or
// until the user has left it.
func (v *viewer) run(ctx context.Context) (int, error) {
	watch, err := v.store.Watch(v.c)
	if err != nil {
		return 0, err
	}
	defer watch.Close()
	con, err := v.client.Console(ctx)
	if err != nil {
		return 0, err
	}
	defer con.Close()
	if con.TTY && con.Input && v.stdin != nil {
		restore, err := launcher.Raw(v.stdin)
		if err != nil {
			return 0, err
		}
		defer restore()
	}
	// Opened before anything is typed, whose effect it is to show.
	r, err := logs.Open(filepath.Join(v.store.LogDir(&v.c.Record), logs.File), logs.Query{None: true, Follow: true})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	if con.Input && v.stdin != nil {
		go v.typed(con, leave) // held up by the terminal, it ends with the program
	}
	stop := v.signals(ctx, con)
	defer stop()
	return v.show(ctx, r, watch)
}

// typed passes on what is typed, and leaves at the detach keys.
func (v *viewer) typed(con *supervise.Console, leave func()) {
	k := &keyReader{r: v.stdin, keys: v.keys}
	_, _ = io.Copy(con, k) // a container that has ended takes no more
	if k.detached {
		leave()
	}
}

// show prints what the container writes until its end, or until ctx is done.
func (v *viewer) show(ctx context.Context, r *logs.Reader, watch *state.Watch) (int, error) {
	until, ended := context.WithCancel(ctx)
	defer ended()
	var exit state.Exit
	var werr error
	var waiting sync.WaitGroup
	waiting.Go(func() {
		defer ended()
		exit, werr = watch.Wait(ctx)
	})
	p := printer{stdout: v.stdout, stderr: v.stderr}
	err := r.Run(until, p.print)
	waiting.Wait()
	switch {
	case errors.Is(werr, context.Canceled):
		return exitOK, err // left
	case err != nil:
		return 0, err
	}
	return exit.Code, werr
}

// signals passes signals and the size of the terminal on, until the function it
// returns is called.
func (v *viewer) signals(ctx context.Context, con *supervise.Console) func() {
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGWINCH)
	done := make(chan struct{})
	resize := func() {
		if rows, columns := launcher.WindowSize(os.Stdout); con.TTY && rows > 0 {
			_ = con.Resize(rows, columns) // the container may just have ended
		}
	}
	resize()
	go func() {
		defer close(done)
		for sig := range sigs {
			if sig == syscall.SIGWINCH {
				resize()
				continue
			}
			_ = v.client.Signal(ctx, unix.Signal(sig.(syscall.Signal)))
		}
	}()
	return func() {
		signal.Stop(sigs)
		close(sigs)
		<-done
	}
}
