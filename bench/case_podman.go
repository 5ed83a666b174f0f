// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// podmanPrefix begins the names of the cases that need Podman.
const podmanPrefix = "pull/podman-"

// podmanRate is how much Podman's container pulls for each second of the window (bytes):
// by default what a large image has.
const podmanRate = 2e9

// podmanTime is about how long Podman takes for the rest.
const podmanTime = 2 * time.Second

// podmanMTU is the MTU of the container's link in builds, which Buildah has no option for.
const podmanMTU = 65520

// podmanLook is how long is waited for the download before it is seen whether Podman
// still runs.
const podmanLook = 100 * time.Millisecond

// A podmanCase has a real `podman run` or `podman build` get a large archive over HTTP
// and unpack it, with the subject as Podman's network helper. Podman starts the
// container and, but for pasta, the helper; the direct path is --network host.
type podmanCase struct {
	verb string
}

// Name implements Case.
func (c podmanCase) Name() string { return podmanPrefix + c.verb }

// Wide implements Case.
func (podmanCase) Wide() bool { return false }

// NeedsHelper implements Case.
func (podmanCase) NeedsHelper() bool { return false }

// Metrics implements Case.
func (podmanCase) Metrics() []Metric { return pullCase{}.Metrics() }

// rounds implements rare.
func (podmanCase) rounds(Plan) int { return 1 }

// launches implements launcher. Podman starts no RootlessKit, and gives a helper no
// arguments but its own.
func (podmanCase) launches(s Subject) bool {
	switch s.Tool {
	case directName, "slirp4netns", "pasta", ownTool:
		return len(s.Extra) == 0
	}
	return false
}

// podmanBytes is how much Podman's container pulls.
func (p Plan) podmanBytes() int64 { return int64(podmanRate * p.Window.Seconds()) }

// price implements priced.
func (podmanCase) price(p Plan) time.Duration {
	return podmanTime + time.Duration(float64(p.podmanBytes())/pullTypical*float64(time.Second))
}

// fits returns an error where the step asks for what Podman does not do, or for more
// than the memory that it unpacks into.
func (c podmanCase) fits(b *bout) error {
	s := b.step
	if s.Family != 4 || c.verb == podmanBuild && s.MTU != podmanMTU && s.Subject.Tool != directName {
		return fmt.Errorf("podman %s has IPv4 and an MTU of %d for all helpers alike: not IPv%d and %d", c.verb, podmanMTU, s.Family, s.MTU)
	}
	need := b.plan.podmanBytes()*5/4 + 256e6 // what is unpacked, and processes
	if free := availableMemory(readFile("/proc/meminfo")); free < need {
		return fmt.Errorf("it is unpacked into memory, and of %d MB that it needs %d are available: a shorter -duration needs less", need/1e6, free/1e6)
	}
	return nil
}

func (c podmanCase) run(ctx context.Context, b *bout) (map[string]float64, any, error) {
	if err := c.fits(b); err != nil {
		return nil, nil, err
	}
	if err := b.peer.call(ctx, 0, "pull.serve", nil, nil); err != nil {
		return nil, nil, err
	}
	busyBefore, err := machineCPU()
	if err != nil {
		return nil, nil, err
	}
	p := startPodman(ctx, b, c)
	held, seenErr := p.look(ctx, b)
	if err := <-p.done; err != nil {
		return nil, nil, err
	}
	busyAfter, err := machineCPU()
	if err := errors.Join(seenErr, err); err != nil {
		return nil, p.result, err
	}
	gigabytes := float64(p.args.Bytes) / bytesPerGB
	v := map[string]float64{"time": (p.result.Elapsed - held).Seconds() / gigabytes, "cpu_all": (busyAfter - busyBefore) / gigabytes}
	if b.step.Subject.Tool != directName {
		v["cpu"] = p.helperCPU / gigabytes
		v[helperCPUKey] = p.helperCPU
	}
	return v, p.result, nil
}

// A podmanPull is a running pull by Podman.
type podmanPull struct {
	args      podmanArgs
	done      chan error   // gets how it ended
	result    podmanResult // set when it has
	helperCPU float64      // seconds
}

// startPodman has the endpoint on the host start it.
func startPodman(ctx context.Context, b *bout, c podmanCase) *podmanPull {
	s := b.step.Subject
	p := &podmanPull{done: make(chan error, 1), args: podmanArgs{
		Verb: c.verb, Addr: b.addr, Bytes: b.plan.podmanBytes(), MTU: b.step.MTU, Tool: s.Tool, Helper: s.Path,
	}}
	go func() { p.done <- b.container.call(ctx, c.price(b.plan)+pullPatience, "podman", p.args, &p.result) }()
	return p
}

// look waits until all is unpacked, sees who carried it, and lets Podman go on. It returns
// how long that one waited.
func (p *podmanPull) look(ctx context.Context, b *bout) (time.Duration, error) {
	for {
		var since time.Time
		if err := b.peer.call(ctx, podmanLook, "pull.held", podmanLook, &since); err != nil {
			return 0, err
		}
		if since.IsZero() {
			select {
			case err := <-p.done:
				p.done <- err
				return 0, errors.New("podman ended before it had unpacked the archive")
			default:
				continue
			}
		}
		err := p.see(ctx, b)
		var held time.Duration
		if freeErr := b.peer.call(ctx, dialTimeout, "pull.release", since, &held); err == nil {
			err = freeErr
		}
		return held, err
	}
}

// see finds the process that has the host's end of the download, which must be the
// subject's, and reads the CPU time that it has used since Podman started it.
func (p *podmanPull) see(ctx context.Context, b *bout) error {
	finds, err := b.findSockets(ctx)
	if err != nil {
		return err
	}
	// What Podman leaves in the background is adopted by this process.
	pids, err := processTree(os.Getpid(), b.peer.pid)
	if err != nil {
		return err
	}
	if b.carrier, err = ownerAmong(pids, finds); err != nil {
		return err
	}
	if b.step.Subject.Tool == directName {
		return nil
	}
	if err := b.carrier.runs(p.args.Helper); err != nil {
		return err
	}
	helper, err := processTree(b.carrier.PID, 0)
	if err != nil {
		return err
	}
	for _, pid := range helper {
		used, err := cpuSeconds(pid)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		p.helperCPU += used
	}
	return nil
}

// runs returns an error unless the process runs the program, or a variant of it that
// suits the processor, as pasta starts one. Its path it may have hidden from itself, as
// slirp4netns does in its sandbox.
func (p *Proof) runs(program string) error {
	want, err := filepath.EvalSymlinks(program)
	if err != nil {
		return fmt.Errorf("find the helper's program: %w", err)
	}
	name := filepath.Base(want)
	if strings.HasPrefix(p.Exe, name+".") {
		return nil
	}
	ours, err := os.Stat(want)
	if err != nil {
		return fmt.Errorf("find the helper's program: %w", err)
	}
	if theirs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", p.PID)); err != nil || !os.SameFile(ours, theirs) {
		return fmt.Errorf("the download was carried by process %d, %s (%s), which does not run %s", p.PID, p.Comm, p.Exe, name)
	}
	p.Exe = name
	return nil
}

// availableMemory reads how many bytes programs may still get, of /proc/meminfo.
func availableMemory(meminfo string) int64 {
	for line := range strings.Lines(meminfo) {
		var kib int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}
