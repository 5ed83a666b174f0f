// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// requestTimeout is how long a client may take to send its request.
	requestTimeout = 5 * time.Second
	// maxClients is how many are served at once.
	maxClients = 64
	// socketMode lets the owner in, and nobody else.
	socketMode = 0o600
)

// A Config says where a Broker listens and how it starts helpers. All fields are
// needed.
type Config struct {
	Socket string
	// Spawn starts a helper for the request, whose files stay the Broker's. The Broker
	// waits for the end of the process.
	Spawn func(*Request) (*os.Process, error)
	Log   *slog.Logger
}

// A Broker answers requests. Make it with New, Run it, and Close it then.
type Broker struct {
	cfg      Config
	listener *net.UnixListener
	slots    chan struct{}
}

// New listens at the socket. One that nobody listens at is replaced.
func New(cfg Config) (*Broker, error) {
	if c, err := net.DialTimeout("unixpacket", cfg.Socket, requestTimeout); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen at %s: another broker does", cfg.Socket)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(cfg.Socket) // if it stays, listening fails
	}
	// The file gets the mode that the socket has when it is bound (bind(2)).
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }); cerr != nil {
			return cerr
		}
		return err
	}}
	l, err := lc.Listen(context.Background(), "unixpacket", cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("listen for plugins: %w", err)
	}
	return &Broker{cfg: cfg, listener: l.(*net.UnixListener), slots: make(chan struct{}, maxClients)}, nil
}

// Close stops listening and removes the socket. It may be called again.
func (b *Broker) Close() error {
	if err := b.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop listening for plugins: %w", err)
	}
	return nil
}

// Run answers requests until ctx is done. Helpers that were started run on.
func (b *Broker) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { b.listener.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		c, err := b.listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for plugins: %w", err)
		}
		b.slots <- struct{}{}
		clients.Go(func() {
			b.serve(c)
			c.Close()
			<-b.slots
		})
	}
}

// serve answers one client.
func (b *Broker) serve(c *net.UnixConn) {
	var answer reply
	if err := b.start(c); err != nil {
		b.cfg.Log.Warn("no helper", "err", err)
		answer.Error = err.Error()
	}
	body, err := json.Marshal(answer)
	if err == nil {
		_, err = c.Write(body)
	}
	if err != nil {
		b.cfg.Log.Info("a plugin did not wait for its answer", "err", err)
	}
}

// start starts a helper for the client.
func (b *Broker) start(c *net.UnixConn) error {
	if err := c.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	if err := allowed(c); err != nil {
		return err
	}
	r, err := receive(c)
	if r != nil {
		defer r.close()
	}
	if err != nil {
		return err
	}
	proc, err := b.cfg.Spawn(r)
	if err != nil {
		return err
	}
	b.cfg.Log.Info("helper started", "pid", proc.Pid)
	// It ends with its container, and is ours to reap. Nobody waits for that.
	go func() {
		if state, err := proc.Wait(); err == nil {
			b.cfg.Log.Info("helper ended", "pid", proc.Pid, "status", state.String())
		}
	}()
	return nil
}

// allowed refuses other users.
func allowed(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("find out who asks: %w", err)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not use this broker: only user %d may", cred.Uid, os.Geteuid())
	}
	return nil
}
