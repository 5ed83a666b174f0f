// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Proof says which process the host's end of a measured flow belonged to: that of
// the subject, or the measurement was one of something else.
type Proof struct {
	Socket string `json:"socket,omitempty"` // the host's end of the flow
	PID    int    `json:"pid,omitempty"`
	Comm   string `json:"comm,omitempty"`
	Exe    string `json:"exe,omitempty"` // the program's name
	// Later says that all measured flows were over, so that one more was opened.
	Later bool `json:"later,omitempty"`
	// Paths are those that slipway says its flows take.
	Paths  []string `json:"paths,omitempty"`
	Failed string   `json:"failed,omitempty"` // why there is no proof
}

// prove looks for the process that carries the step's flows. It returns nil where
// the case is about the helper alone and leaves no flow.
func (b *bout) prove(ctx context.Context) *Proof {
	if b.carrier != nil {
		return b.carrier
	}
	p, err := b.proof(ctx)
	if err != nil {
		return &Proof{Failed: err.Error()}
	}
	return p
}

func (b *bout) proof(ctx context.Context) (*Proof, error) {
	p, err := b.ownedFlow(ctx)
	if err != nil {
		if b.step.Case.NeedsHelper() && errors.Is(err, errNoFlow) {
			return nil, nil
		}
		// Flows that were about to end may have done so in between.
		opener, addr := b.container, b.addr
		if b.inbound != nil {
			opener, addr = b.inbound.client, b.inbound.addr
		}
		if err := opener.call(ctx, dialTimeout, "hold", holdArgs{Addr: addr, N: 1}, nil); err != nil {
			return nil, err
		}
		if p, err = b.ownedFlow(ctx); err != nil {
			return nil, err
		}
		p.Later = true
	}
	p.Paths, err = b.slipwayPaths(ctx)
	return p, err
}

// errNoFlow says that no flow is open.
var errNoFlow = errors.New("the host has no socket for a flow")

// ownedFlow returns the first open flow whose end on the host is the subject's.
func (b *bout) ownedFlow(ctx context.Context) (*Proof, error) {
	finds, err := b.findSockets(ctx)
	if err != nil {
		return nil, err
	}
	pids, err := b.suspects()
	if err != nil {
		return nil, err
	}
	return ownerAmong(pids, finds)
}

// ownerAmong returns the first of the flows whose end on the host one of the processes
// has.
func ownerAmong(pids []int, finds []find) (*Proof, error) {
	errs := []error{errNoFlow}
	for i, f := range finds {
		if i == 0 {
			errs[0] = fmt.Errorf("the socket %s was not found among the subject's", f.flow)
		}
		for _, s := range f.sockets {
			pid, err := s.owner(pids)
			if pid != 0 {
				return newProof(f.flow, pid), nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}

func newProof(f flow, pid int) *Proof {
	p := &Proof{Socket: f.String(), PID: pid, Comm: strings.TrimSpace(readFile(fmt.Sprintf("/proc/%d/comm", pid)))}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
		p.Exe = filepath.Base(exe)
	}
	return p
}

// suspects are the processes that may carry the flow: the helper's, or on the direct
// path the container's endpoint.
func (b *bout) suspects() ([]int, error) {
	if b.helper == nil {
		return []int{b.container.pid}, nil
	}
	return b.helper.processes()
}

// A find is a flow as the host sees it, with the sockets that may be its end there.
type find struct {
	flow    flow
	sockets []socket
}

// findSockets asks the endpoint outside for its flows and looks for the other ends of
// those that are still open.
func (b *bout) findSockets(ctx context.Context) ([]find, error) {
	outside := b.peer
	if b.inbound != nil {
		outside = b.inbound.client
	}
	var flows []flow
	if err := outside.call(ctx, 0, "flows", nil, &flows); err != nil {
		return nil, err
	}
	known := map[string][]socket{}
	for _, proto := range []string{"tcp", "udp"} {
		err := b.topo.hostAdmin.do(func() error {
			var err error
			known[proto], err = hostSockets(proto)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return matchFlows(flows, known), nil
}

// matchFlows returns the flows, seen from outside, whose other end is among the known
// sockets.
func matchFlows(flows []flow, known map[string][]socket) []find {
	var finds []find
	for _, f := range flows {
		f = f.turned()
		var some []socket
		for _, s := range known[f.Proto] {
			if s.carries(f) {
				some = append(some, s)
			}
		}
		if len(some) > 0 {
			finds = append(finds, find{f, some})
		}
	}
	return finds
}

// slipwayPaths returns the paths that slipway's flows of the step take, nil for other
// tools.
func (b *bout) slipwayPaths(ctx context.Context) ([]string, error) {
	if b.helper == nil || b.step.Subject.Tool != "slipway" {
		return nil, nil
	}
	var flows []struct {
		Path string `json:"path"`
	}
	if err := newAPIClient(b.helper.job.api()).get(ctx, "flows", &flows); err != nil {
		return nil, err
	}
	var paths []string
	for _, f := range flows {
		if !slices.Contains(paths, f.Path) {
			paths = append(paths, f.Path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}
