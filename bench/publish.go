// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"
)

// publishTimeout bounds one request to a helper to publish a port.
const publishTimeout = 5 * time.Second

// A publication is a port of the host on which the container's port of the same
// number is to be reached.
type publication struct {
	Proto string // "tcp" or "udp"
	Addr  netip.Addr
	Port  int
}

// host is the host's end, as "0.0.0.0:80" or "[::]:80".
func (p publication) host() string {
	return netip.AddrPortFrom(p.Addr, uint16(p.Port)).String()
}

// String is the publication as the errors show it.
func (p publication) String() string { return p.host() + "/" + p.Proto }

// slirpPublish asks slirp4netns as Podman does with port_handler=slirp4netns
// (slirp4netns(1), API SOCKET).
func slirpPublish(ctx context.Context, j job, p publication) error {
	type arguments struct {
		Proto     string `json:"proto"`
		HostAddr  string `json:"host_addr"`
		HostPort  int    `json:"host_port"`
		GuestAddr string `json:"guest_addr"`
		GuestPort int    `json:"guest_port"`
	}
	const guest = "10.0.2.100" // the container's address where no --cidr says otherwise
	request := struct {
		Execute   string    `json:"execute"`
		Arguments arguments `json:"arguments"`
	}{"add_hostfwd", arguments{p.Proto, p.Addr.String(), p.Port, guest, p.Port}}
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	c, err := (&net.Dialer{Timeout: publishTimeout}).DialContext(ctx, "unix", j.api())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(publishTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	return parseSlirpAnswer(json.NewDecoder(io.LimitReader(c, maxOutput)))
}

// parseSlirpAnswer returns the error that an answer holds.
func parseSlirpAnswer(d *json.Decoder) error {
	var answer struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	if err := d.Decode(&answer); err != nil {
		return fmt.Errorf("read the API's answer: %w", err)
	}
	if answer.Error != nil {
		return fmt.Errorf("the API refused: %s", answer.Error.Desc)
	}
	if answer.Return == nil {
		return fmt.Errorf("the API's answer holds neither a return nor an error")
	}
	return nil
}

// rootlesskitPublish asks RootlessKit as Docker does and as rootlessctl add-ports
// does (RootlessKit, pkg/api/openapi.yaml).
func rootlesskitPublish(ctx context.Context, j job, p publication) error {
	spec := struct {
		Proto      string `json:"proto"`
		ParentIP   string `json:"parentIP"`
		ParentPort int    `json:"parentPort"`
		ChildPort  int    `json:"childPort"`
	}{p.Proto, p.Addr.String(), p.Port, p.Port}
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://rootlesskit/v1/ports", bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := newAPIClient(filepath.Join(j.stateDir(), "api.sock")).http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return nil
	}
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	if err != nil {
		return fmt.Errorf("the API refused: %s: %w", resp.Status, err)
	}
	return fmt.Errorf("the API refused: %s: %s", resp.Status, bytes.TrimSpace(said))
}
