// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// An endpoint makes or takes the traffic of one step. It holds no state beyond
// what the current operations need, and its process ends with its input.
type endpoint struct {
	tcp  tcpLoad
	held heldConns
	svc  *service
	udp  udpPort
	soak soakLoad
	pull *pullServer // nil until it serves
}

// runEndpoint obeys requests until the input ends.
func runEndpoint(in io.Reader, out io.Writer) error {
	e := new(endpoint)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var (
			req request
			a   response
		)
		err := json.Unmarshal(lines.Bytes(), &req)
		var result any
		if err == nil {
			result, err = e.handle(req)
		}
		if err == nil {
			a.Result, err = json.Marshal(result)
		}
		if err != nil {
			a = response{Err: err.Error()}
		}
		line, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("encode answer to %s: %w", req.Op, err)
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("answer %s: %w", req.Op, err)
		}
	}
	return lines.Err()
}

func (e *endpoint) handle(req request) (any, error) {
	switch req.Op {
	case "pid":
		return os.Getpid(), nil
	case "lo":
		return nil, loopbackUp()
	case "congestion":
		return do(req, setContainerCongestion)
	case "serve":
		svc, err := startService()
		e.svc = svc
		return nil, err
	case "serve.loopback":
		svc, err := startService("127.0.0.1", "::1")
		e.svc = svc
		return nil, err
	case "reach":
		return do(req, reach)
	case "tcp.start":
		return do(req, e.tcp.start)
	case "served":
		return e.svc.firstCongestion.Load(), nil
	case "tcp.received":
		return do(req, e.received)
	case "tcp.total":
		return e.total(), nil
	case "flows":
		return e.flows()
	case "met":
		return e.met(), nil
	case "connect":
		return do(req, connectLoop)
	case "roundtrip":
		return do(req, roundTrips)
	case "hold":
		return do(req, e.held.hold)
	case "udp.open":
		return do(req, e.udp.open)
	case "udp.send":
		return do(req, e.udpSend)
	case "udp.count":
		return do(req, e.udpCount)
	case "udp.serve":
		return nil, serveUDP()
	case "resolver":
		return firstResolver(resolvConf)
	case "dns":
		return do(req, dnsLoop)
	case "probe":
		return do(req, e.probe)
	case "latency":
		return do(req, connectLatency)
	case "soak.start":
		return do(req, e.soak.start)
	case "soak.counts":
		return e.soak.counts(), nil
	case "soak.stop":
		return e.soak.stop()
	case "pull.serve":
		server, err := servePull()
		e.pull = server
		return nil, err
	case "pull.held":
		return do(req, e.pull.held)
	case "pull.release":
		return do(req, e.pull.release)
	case "pull":
		return do(req, pull)
	case "podman":
		return do(req, podman)
	case "iperf.serve":
		return do(req, iperfServe)
	case "iperf.run":
		return do(req, iperfRun)
	}
	return nil, fmt.Errorf("no operation %q", req.Op)
}

// do decodes the arguments and calls the operation.
func do[A, R any](req request, f func(A) (R, error)) (any, error) {
	var args A
	if err := json.Unmarshal(req.Args, &args); err != nil {
		return nil, fmt.Errorf("decode arguments of %s: %w", req.Op, err)
	}
	return f(args)
}

// congestionArgs name a congestion control.
type congestionArgs struct {
	Name string
}

// setContainerCongestion makes the container's TCP like the host's: the kernel
// gives a new namespace the machine's default congestion control, not that of the
// namespace it is made from (net/ipv4/tcp_ipv4.c, tcp_sk_init).
func setContainerCongestion(a congestionArgs) (struct{}, error) {
	return struct{}{}, setCongestion(a.Name)
}

// windowArgs ask for a count over Window, which starts Warmup from now.
type windowArgs struct {
	Warmup, Window time.Duration
}

// windowResult is what arrived in the window.
type windowResult struct {
	Bytes   int64
	Elapsed time.Duration
}

// totalResult is the bulk TCP payload that passed here so far, in bytes.
type totalResult struct {
	Sent, Received int64
}

func (e *endpoint) total() totalResult {
	r := totalResult{Sent: e.tcp.put.Load(), Received: e.tcp.got.Load()}
	if e.svc != nil {
		r.Sent += e.svc.put.Load()
		r.Received += e.svc.got.Load()
	}
	return r
}

// received counts the TCP payload that arrives here, as client or as server.
func (e *endpoint) received(a windowArgs) (windowResult, error) {
	total := func() int64 { return e.total().Received }
	time.Sleep(a.Warmup)
	start, before := time.Now(), total()
	time.Sleep(a.Window)
	after, elapsed := total(), time.Since(start)
	return windowResult{Bytes: after - before, Elapsed: elapsed}, nil
}
