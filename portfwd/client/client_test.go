// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/portfwd/client"
	"github.com/slipway-net/slipway/portfwd/portapi"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
	"github.com/slipway-net/slipway/tap"
	"golang.org/x/sys/unix"
)

// A closer is a Stack that carries nothing.
type closer struct {
	mu  sync.Mutex
	fds map[int]int
	cut []bool
}

func (c *closer) Publish(ls []portfwd.Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range ls {
		c.fds[l.ID] = l.FD
	}
}

func (c *closer) Withdraw(_ context.Context, ids []int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		unix.Close(c.fds[id])
	}
	c.cut = append(c.cut, cut)
}

// serve serves the API for a table, and whatever else mux has, until the test ends.
func serve(t *testing.T, mux *unixhttp.Mux) (string, *closer) {
	t.Helper()
	plan, err := tap.NewPlan(netip.MustParsePrefix(tap.DefaultCIDR4), netip.MustParsePrefix(tap.DefaultCIDR6))
	if err != nil {
		t.Fatal(err)
	}
	stack := &closer{fds: map[int]int{}}
	table := portfwd.New(portfwd.Config{Stack: stack, Plan: plan})
	ports := portapi.New(table)
	mux.Handle("/v1/ports", ports)
	mux.Handle("/v1/ports/", ports)
	path := filepath.Join(t.TempDir(), "api")
	s, err := unixhttp.Listen(path, unixhttp.Config{Handler: mux, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		table.Close()
	})
	return path, stack
}

func TestPorts(t *testing.T) {
	path, stack := serve(t, new(unixhttp.Mux))
	c, ctx := client.Dial(path), t.Context()
	if ports, err := c.Ports(ctx); err != nil || len(ports) != 0 {
		t.Errorf("Ports: %v, %v, want none", ports, err)
	}
	added, err := c.Publish(ctx, []string{"127.0.0.1:0:80", "[::1]:0:53-54/udp"})
	if err != nil || len(added) != 3 {
		t.Fatalf("Publish: %v, %v", added, err)
	}
	chosen := netip.MustParseAddrPort(added[0].Host)
	if got := netip.MustParseAddrPort(added[2].Host); chosen.Port() == 0 || got.Port() == 0 || added[2].Proto != "udp" {
		t.Errorf("published: %+v, want the ports that were chosen", added)
	}
	if ports, err := c.Ports(ctx); err != nil || !cmp.Equal(ports, added) {
		t.Errorf("Ports: %v, %v, want %v", ports, err, added)
	}
	// All or nothing, and who has it.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, rule := range []string{added[0].Rule, "127.0.0.1:" + port + ":80"} {
		_, err := c.Publish(ctx, []string{"127.0.0.1:0:81", rule})
		if !errors.Is(err, portfwd.ErrInUse) || !strings.Contains(err.Error(), strings.Split(rule, ":")[1]) {
			t.Errorf("Publish %s: %v, want %v that names the port", rule, err, portfwd.ErrInUse)
		}
	}
	if ports, err := c.Ports(ctx); err != nil || len(ports) != 3 {
		t.Errorf("Ports after failures: %v, %v, want the 3 from before", ports, err)
	}
	if err := c.Withdraw(ctx, []int{added[1].ID, 99}, nil, false); !errors.Is(err, portfwd.ErrNoPort) {
		t.Errorf("Withdraw of an unknown port: %v", err)
	}
	if err := c.Withdraw(ctx, []int{added[1].ID}, []string{added[0].Rule}, true); err != nil {
		t.Errorf("Withdraw: %v", err)
	}
	if err := c.Withdraw(ctx, []int{added[2].ID}, nil, false); err != nil {
		t.Errorf("Withdraw: %v", err)
	}
	if diff := cmp.Diff([]bool{true, false}, stack.cut); diff != "" {
		t.Errorf("cut (-want +got):\n%s", diff)
	}
	if l, err := net.Listen("tcp", chosen.String()); err != nil {
		t.Errorf("the port is still taken: %v", err)
	} else {
		l.Close()
	}
}

func TestErrors(t *testing.T) {
	mux := new(unixhttp.Mux)
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"pid":"one"}`) })
	mux.HandleFunc("GET /v1/plain", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "of another's making", http.StatusTeapot) })
	path, _ := serve(t, mux)
	c, ctx := client.Dial(path), t.Context()
	for name, tt := range map[string]struct {
		ask    func() error
		want   string
		status int
	}{
		"unknown":    {func() error { _, err := c.Get(ctx, "nothing"); return err }, "ask for nothing: there is no /v1/nothing", 404},
		"bad rule":   {func() error { _, err := c.Publish(ctx, []string{"80:80/sctp"}); return err }, "publish ports: rule 1: ", 400},
		"no port":    {func() error { return c.Withdraw(ctx, nil, nil, false) }, "name the ports", 400},
		"plain text": {func() error { _, err := c.Get(ctx, "plain"); return err }, "of another's making", http.StatusTeapot},
		"bad reply":  {func() error { _, err := c.Info(ctx); return err }, "ask for info: read the reply: ", 0},
		"nobody":     {func() error { _, err := client.Dial(path + "-not").Ports(ctx); return err }, path + "-not", 0},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.ask()
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "http://") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if refused, ok := errors.AsType[*client.Error](err); tt.status != 0 && (!ok || refused.Status != tt.status) {
				t.Errorf("got %#v, want status %d", err, tt.status)
			}
		})
	}
	if _, err := client.Dial(path + "-not").Ports(ctx); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody: %v, want %v", err, os.ErrNotExist)
	}
}
