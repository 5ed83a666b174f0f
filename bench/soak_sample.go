// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// A soakSample is what the helper holds at one moment.
type soakSample struct {
	Phase      string        `json:"phase"`
	At         time.Duration `json:"at_ns"` // since the load began
	FDs        int           `json:"fds"`
	Goroutines int           `json:"goroutines"`
	TCP        int           `json:"tcp"` // flows, as are the next two
	UDP        int           `json:"udp"`
	Other      int           `json:"other"`
	RSS        int64         `json:"rss_kib"`
	CPU        float64       `json:"cpu_s"`
	Counts     soakCounts    `json:"counts"`
}

// Flows is the number of flows of every kind.
func (s soakSample) Flows() int { return s.TCP + s.UDP + s.Other }

// openFiles counts the process's open descriptors. Their directory can be listed
// by root only, once the process has entered a user namespace (PR_SET_DUMPABLE of
// prctl(2)); but since Linux 6.2 its size is their number (proc_pid_fd(5)).
func openFiles(pid int) (int, error) {
	path := fmt.Sprintf("/proc/%d/fd", pid)
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("count open files: %w", err)
	}
	if n := int(info.Size()); n > 0 {
		return n, nil
	}
	list, err := os.ReadDir(path)
	if err != nil {
		return 0, fmt.Errorf("count open files: this needs Linux 6.2: %w", err)
	}
	return len(list), nil
}

// apiTimeout bounds one question to the helper.
const apiTimeout = 10 * time.Second

// maxAnswer bounds an answer of the helper, in bytes: 16384 flows of each kind at
// half a kilobyte.
const maxAnswer = 32 << 20

// An apiClient asks the API of a slipway, which attach.API describes.
type apiClient struct{ http *http.Client }

// newAPIClient returns a client of the API at the socket. Each question has a
// connection of its own, so that none is open between them.
func newAPIClient(socket string) *apiClient {
	return &apiClient{&http.Client{
		Timeout: apiTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		},
	}}
}

// get decodes the answer to GET /v1/what into v.
func (a *apiClient) get(ctx context.Context, what string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://slipway/v1/"+what, nil)
	if err != nil {
		return fmt.Errorf("ask the helper for %s: %w", what, err)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the helper for %s: %w", what, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the helper for %s: %s", what, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("read the helper's %s: %w", what, err)
	}
	return nil
}

// goroutines returns how many goroutines the helper has, those included that
// answer this question.
func (a *apiClient) goroutines(ctx context.Context) (int, error) {
	var counters []struct {
		Name  string `json:"name"`
		Value int    `json:"value"`
	}
	if err := a.get(ctx, "counters", &counters); err != nil {
		return 0, err
	}
	for _, c := range counters {
		if c.Name == "goroutines" {
			return c.Value, nil
		}
	}
	return 0, fmt.Errorf("the helper does not count its goroutines")
}

// flows returns how many flows the helper has of each kind.
func (a *apiClient) flows(ctx context.Context) (tcp, udp, other int, err error) {
	var list []struct {
		Proto string `json:"proto"`
	}
	if err := a.get(ctx, "flows", &list); err != nil {
		return 0, 0, 0, err
	}
	for _, f := range list {
		switch f.Proto {
		case "tcp":
			tcp++
		case "udp":
			udp++
		default:
			other++
		}
	}
	return tcp, udp, other, nil
}
