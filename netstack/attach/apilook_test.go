// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/slipway-net/slipway/netstack/attach"
	"github.com/slipway-net/slipway/netstack/attach/attachtest"
	"github.com/slipway-net/slipway/portfwd"
	"github.com/slipway-net/slipway/portfwd/client"
	"github.com/slipway-net/slipway/portfwd/portapi"
)

// TestAPIInfo has all that RootlessKit's clients look at, and ours.
func TestAPIInfo(t *testing.T) {
	r := prepare(t, func(cfg *attach.Config) { cfg.Version = "1.2.3"; cfg.NoSplice = true })
	path, _ := listen(t, r)
	got, err := client.Dial(path).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := portapi.Info{
		APIVersion: "1.1.1", Version: "1.2.3", StateDir: filepath.Dir(path), ChildPID: r.c.PID(),
		NetworkDriver: portapi.NetworkDriver{
			Driver: "slipway", ChildIP: r.plan.V4.Container, DNS: []netip.Addr{r.plan.V4.DNS, r.plan.V6.DNS},
		},
		PortDriver: portapi.PortDriver{
			Driver: "slipway", DisallowLoopbackChildIP: true,
			Protos: []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"},
		},
		PID: os.Getpid(), Path: "stacked", Interface: "tap0", MTU: r.s.Device().MTU(),
		Plan: []portapi.Network{
			{CIDR: r.plan.V4.Prefix, Gateway: r.plan.V4.Gateway, DNS: []netip.Addr{r.plan.V4.DNS}, Container: r.plan.V4.Container},
			{CIDR: r.plan.V6.Prefix, Gateway: r.plan.V6.Gateway, DNS: []netip.Addr{r.plan.V6.DNS}, Container: r.plan.V6.Container},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
}

// health asks for it, whatever the status.
func health(t testing.TB, path string) string {
	t.Helper()
	body, err := client.Dial(path).Get(t.Context(), "health")
	if refused(err, http.StatusServiceUnavailable) {
		return err.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAPIHealth looks before the loop runs, while it does, and when the container
// has broken the spliced path.
func TestAPIHealth(t *testing.T) {
	r := prepare(t, nil)
	path, _ := listen(t, r)
	for _, what := range []string{"health", "flows"} {
		if _, err := client.Dial(path).Get(t.Context(), what); !refused(err, http.StatusServiceUnavailable) || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("%s before Run: %v, want 503", what, err)
		}
	}
	r.run(t)
	attachtest.Eventually(t, "the spliced path is open", func() bool {
		return strings.Contains(health(t, path), `"splice":[{"family":"IPv4","state":"open"},{"family":"IPv6","state":"open"}]`)
	})
	var got struct {
		Status string
		Lag    time.Duration `json:"lag_ns"`
	}
	if err := json.Unmarshal([]byte(health(t, path)), &got); err != nil || got.Status != "ok" || got.Lag <= 0 {
		t.Errorf("health: %+v, %v", got, err)
	}
	stacked := start(t, func(cfg *attach.Config) { cfg.NoSplice = true })
	path, _ = listen(t, stacked)
	if got := health(t, path); !strings.Contains(got, `"splice":[{"family":"IPv4","state":"off"},{"family":"IPv6","state":"off"}]`) {
		t.Errorf("health without a spliced path: %s", got)
	}
}

// TestAPIMetrics holds the reply to the grammar of the text format.
func TestAPIMetrics(t *testing.T) {
	r := start(t, func(cfg *attach.Config) {
		cfg.Version = `1.2"3`
		cfg.Publish = rules(t, "127.0.0.1:0:80", "127.0.0.1:0:80/udp")
	})
	path, _ := listen(t, r)
	p := r.connect(t, attachtest.Families()[0])
	exchange(t, p.container, p.peer)
	body, err := client.Dial(path).Get(t.Context(), "metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^(# HELP slipway_\w+ .+|# TYPE slipway_\w+ (counter|gauge)|slipway_\w+(\{\w+="([^"\\]|\\.)*"(,\w+="([^"\\]|\\.)*")*\})? \d+)$`)
	for s := range strings.Lines(string(text)) {
		if !line.MatchString(strings.TrimSuffix(s, "\n")) {
			t.Errorf("not in the text format: %q", s)
		}
	}
	for _, want := range []string{
		"\nslipway_flows_total{proto=\"tcp\"} 1\n", "\nslipway_dropped_total{reason=\"malformed\"} 0\n",
		"\nslipway_ports{proto=\"tcp\"} 1\nslipway_ports{proto=\"udp\"} 1\n", "version=\"1.2\\\"3\"",
		"\nslipway_splice_open{family=\"IPv4\"} ", "\n# TYPE slipway_goroutines gauge\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %q:\n%s", want, text)
		}
	}
}

func rules(t testing.TB, words ...string) []portfwd.Rule {
	t.Helper()
	var rs []portfwd.Rule
	for _, w := range words {
		r, err := portfwd.ParseRule(w)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

// TestPublish has ports taken from New to Close, and changes them by the API.
func TestPublish(t *testing.T) {
	before := resources(t)
	t.Run("session", func(t *testing.T) {
		r := start(t, func(cfg *attach.Config) { cfg.Publish = rules(t, "127.0.0.1:0:80", "[::1]:0:80") })
		path, _ := listen(t, r)
		c := client.Dial(path)
		ports, err := c.Ports(t.Context())
		if err != nil || len(ports) != 2 {
			t.Fatalf("Ports: %v, %v, want the 2 that were asked for", ports, err)
		}
		for _, p := range ports {
			if l, err := net.Listen("tcp", p.Host); err == nil {
				l.Close()
				t.Errorf("port %s is not taken", p.Host)
			}
			if log := r.log.String(); !strings.Contains(log, "port is published") || !strings.Contains(log, p.Rule) {
				t.Errorf("the log lacks the port %s:\n%s", p.Rule, log)
			}
		}
		more, err := c.Publish(t.Context(), []string{"127.0.0.1:0:81-90", "127.0.0.1:0:53/udp"})
		if err != nil || len(more) != 11 {
			t.Fatalf("Publish: %v, %v", more, err)
		}
		if err := c.Withdraw(t.Context(), []int{ports[0].ID, more[0].ID}, nil, true); err != nil {
			t.Errorf("Withdraw: %v", err)
		}
		for _, p := range []portapi.Port{ports[0], more[0]} {
			l, err := net.Listen("tcp", p.Host)
			if err != nil {
				t.Errorf("port %s is still taken: %v", p.Host, err)
				continue
			}
			l.Close()
		}
	})
	settle(t, before)
}

// TestPublishFails leaves nothing behind.
func TestPublishFails(t *testing.T) {
	w, c := attachtest.Open(t), attachtest.NewContainer(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	before := resources(t)
	cfg := (&rig{World: w, c: c, plan: newPlan(t), log: &syncBuffer{}}).config()
	cfg.Publish = rules(t, "127.0.0.1:0:80", fmt.Sprintf("127.0.0.1:%d:80", port))
	if _, err := attach.New(cfg); !errors.Is(err, portfwd.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(port)) {
		t.Errorf("New: %v, want %v that names %d", err, portfwd.ErrInUse, port)
	}
	settle(t, before)
	if out := c.Exec(t, "ls", "/proc/sys/net/ipv4/conf"); strings.Contains(out, "tap0") {
		t.Errorf("the interface is still there: %s", out)
	}
}

// TestCloseWithPorts does not wait for a loop that does not run.
func TestCloseWithPorts(t *testing.T) {
	for _, run := range []bool{false, true} {
		r := &rig{World: attachtest.Open(t), c: attachtest.NewContainer(t), plan: newPlan(t), log: &syncBuffer{}}
		r.make(t, func(cfg *attach.Config) { cfg.Publish = rules(t, "127.0.0.1:0:80") })
		if run {
			ctx, stop := context.WithCancel(t.Context())
			stop()
			if err := r.s.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		}
		host := r.s.Ports().Ports()[0].Host.String()
		began := time.Now()
		if err := r.s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(began); took > 900*time.Millisecond {
			t.Errorf("Close took %v: it waits for nobody", took)
		}
		if _, err := r.s.Ports().Add(t.Context(), rules(t, "127.0.0.1:0:80")); !errors.Is(err, portfwd.ErrClosed) {
			t.Errorf("Add after Close: %v, want %v", err, portfwd.ErrClosed)
		}
		l, err := net.Listen("tcp", host)
		if err != nil {
			t.Fatalf("the port is still taken: %v", err)
		}
		l.Close()
	}
}

// TestAPICaptureEnds has a capture ended by another client, and one refused beside a
// capture of the session's own.
func TestAPICaptureEnds(t *testing.T) {
	r := start(t, nil)
	path, _ := listen(t, r)
	c := client.Dial(path)
	if err := c.StopCapture(t.Context()); !refused(err, http.StatusNotFound) {
		t.Errorf("StopCapture without one: %v, want 404", err)
	}
	for range 2 {
		body, err := c.Get(t.Context(), "pcap")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.StopCapture(t.Context()); err != nil {
			t.Errorf("StopCapture: %v", err)
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Errorf("the end of the capture: %v", err)
		}
		body.Close()
	}
	if err := r.s.StartCapture(io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "pcap"); !refused(err, http.StatusConflict) {
		t.Errorf("a capture beside the session's own: %v, want 409", err)
	}
	if err := c.StopCapture(t.Context()); !refused(err, http.StatusNotFound) {
		t.Errorf("StopCapture of the session's own: %v, want 404", err)
	}
	if err := r.s.StopCapture(); err != nil {
		t.Error(err)
	}
	body, err := c.Get(t.Context(), "pcap")
	if err != nil {
		t.Errorf("a capture after that: %v", err)
		return
	}
	body.Close()
}
