// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/slipway-net/slipway/portfwd/portapi"
	"github.com/slipway-net/slipway/portfwd/unixhttp"
)

// maxMessage bounds what is read of a reply that tells of a failure (bytes).
const maxMessage = 64 << 10

// A Client asks one helper. The zero Client is not usable: make one with Dial. It is
// used by any goroutine and needs no end.
type Client struct{ http *http.Client }

// Dial returns a client of the API at the socket path. It connects when it is asked
// to do something, anew each time.
func Dial(path string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// An Error is what the helper refused, or failed to do.
type Error struct {
	Status  int // of HTTP
	Message string
	// Socket is the inode of the socket that has the port, where the helper may not see
	// whose it is: portfwd.Holder may tell, asked by this process. Else it is 0.
	Socket uint32
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the error of package portfwd that the status stands for, or nil.
func (e *Error) Unwrap() error { return portapi.Sentinel(e.Status) }

// Get returns the body of the reply to GET /v1/what, such as "flows", "counters" or
// "pcap", which the caller closes.
func (c *Client) Get(ctx context.Context, what string) (io.ReadCloser, error) {
	body, err := c.do(ctx, http.MethodGet, what, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", what, err)
	}
	return body, nil
}

// Info returns what the helper says of itself.
func (c *Client) Info(ctx context.Context) (portapi.Info, error) {
	var info portapi.Info
	err := c.ask(ctx, http.MethodGet, "info", nil, &info)
	if err != nil {
		err = fmt.Errorf("ask for info: %w", err)
	}
	return info, err
}

// Ports returns the published ports, in the order of their IDs.
func (c *Client) Ports(ctx context.Context) ([]portapi.Port, error) {
	var ports []portapi.Port
	if err := c.ask(ctx, http.MethodGet, "ports", nil, &ports); err != nil {
		return nil, fmt.Errorf("list ports: %w", err)
	}
	return ports, nil
}

// Publish publishes all ports of the rules, which portfwd.ParseRule describes, or
// none, and returns them in that order.
func (c *Client) Publish(ctx context.Context, rules []string) ([]portapi.Port, error) {
	body, err := json.Marshal(rules)
	if err != nil {
		return nil, fmt.Errorf("publish ports: %w", err)
	}
	var ports []portapi.Port
	if err := c.ask(ctx, http.MethodPost, "ports", body, &ports); err != nil {
		return nil, fmt.Errorf("publish ports: %w", err)
	}
	return ports, nil
}

// Withdraw withdraws all of the ports, which are named by their IDs or by the rules
// that they were published by, or none. Connections that came by them go on unless
// cut is set.
func (c *Client) Withdraw(ctx context.Context, ids []int, rules []string, cut bool) error {
	query := url.Values{"rule": rules}
	for _, id := range ids {
		query.Add("id", strconv.Itoa(id))
	}
	if cut {
		query.Set("cut", "true")
	}
	if err := c.ask(ctx, http.MethodDelete, "ports?"+query.Encode(), nil, nil); err != nil {
		return fmt.Errorf("withdraw ports: %w", err)
	}
	return nil
}

// StopCapture ends the capture of a client of GET /v1/pcap.
func (c *Client) StopCapture(ctx context.Context) error {
	if err := c.ask(ctx, http.MethodDelete, "pcap", nil, nil); err != nil {
		return fmt.Errorf("stop the capture: %w", err)
	}
	return nil
}

// ask decodes the reply to a request into v, if that is not nil.
func (c *Client) ask(ctx context.Context, method, what string, body []byte, v any) error {
	reply, err := c.do(ctx, method, what, body)
	if err != nil {
		return err
	}
	defer reply.Close()
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(reply).Decode(v); err != nil {
		return fmt.Errorf("read the reply: %w", err)
	}
	return nil
}

// do makes a request and returns the body of the reply.
func (c *Client) do(ctx context.Context, method, what string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://slipway/v1/"+what, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // the URL is none that a user knows
		}
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, failure(resp)
}

// failure reads a reply that tells of one.
func failure(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	if err != nil {
		return fmt.Errorf("%s: read why: %w", resp.Status, err)
	}
	var reply unixhttp.Failure
	if json.Unmarshal(text, &reply) != nil || reply.Message == "" {
		reply.Message = fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return &Error{Status: resp.StatusCode, Message: reply.Message, Socket: reply.Socket}
}
