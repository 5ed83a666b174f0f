// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pullPort is the port of the peer's HTTP server.
const pullPort = 7301

// unpackRoot is where the unpacking process mounts what it unpacks onto: a directory
// that every machine has. Nobody else sees what is mounted there.
const unpackRoot = "/tmp"

// A pullServer serves archives over HTTP, of as many bytes as the path says. Whoever
// asks for holdPath has no answer until it is told that it may go on: so long the
// processes of a client can be looked at.
type pullServer struct {
	arrived chan time.Time // one for each client that is held
	free    chan struct{}
}

// holdPath is where clients are held.
const holdPath = "/hold"

// servePull serves until the process ends.
func servePull() (*pullServer, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(pullPort)))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &pullServer{arrived: make(chan time.Time), free: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc(holdPath, p.hold)
	mux.HandleFunc("/", serveArchive)
	s := &http.Server{ReadHeaderTimeout: dialTimeout, Handler: mux}
	go s.Serve(l)
	return p, nil
}

func serveArchive(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := bufio.NewWriterSize(w, writeSize)
	// A client that misses the end says so.
	if err := writeArchive(out, n); err == nil {
		_ = out.Flush()
	}
}

func (p *pullServer) hold(_ http.ResponseWriter, r *http.Request) {
	select {
	case p.arrived <- time.Now():
	case <-r.Context().Done():
		return
	}
	select {
	case <-p.free:
	case <-r.Context().Done():
	}
}

// held waits for a client that is held, no longer than limit, and returns since when it
// is; the zero time where there is none.
func (p *pullServer) held(limit time.Duration) (time.Time, error) {
	select {
	case since := <-p.arrived:
		return since, nil
	case <-time.After(limit):
		return time.Time{}, nil
	}
}

// release lets the client go that is held since then, and returns for how long it was.
func (p *pullServer) release(since time.Time) (time.Duration, error) {
	select {
	case p.free <- struct{}{}:
		return time.Since(since), nil
	case <-time.After(dialTimeout):
		return 0, errors.New("let the client go: it is gone")
	}
}

// pullArgs ask to get an archive with at least so many bytes in its files.
type pullArgs struct {
	Addr  netip.Addr
	Bytes int64
}

// pullResult is what was pulled.
type pullResult struct {
	Bytes   int64         `json:"bytes"` // in files
	Files   int           `json:"files"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Onto    string        `json:"onto"` // the kind of file system
}

// pull has another process get and unpack an archive: one that may mount file systems.
func pull(a pullArgs) (r pullResult, err error) {
	err = inNamespaces(stageUnpack, a, &r)
	return r, err
}

// inNamespaces has this program, called as that stage, do something in a user and a
// mount namespace of its own. The network is that of this process.
func inNamespaces(stage string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encode arguments: %w", err)
	}
	cmd := exec.Command(selfExe, stage, string(raw))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGKILL,
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	p := newPlace() // the death signal is that of a thread
	defer p.close()
	if err := p.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", stage, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", stage, err, lastLine(said.String()))
	}
	if err := json.Unmarshal([]byte(out.String()), result); err != nil {
		return fmt.Errorf("%s: decode the result: %w", stage, err)
	}
	return nil
}

// runUnpack is the process that unpacks. It writes its result.
func runUnpack(arg string, w io.Writer) error {
	var a pullArgs
	if err := json.Unmarshal([]byte(arg), &a); err != nil {
		return fmt.Errorf("decode what to pull: %w", err)
	}
	dir, kind, err := mountTarget()
	if err != nil {
		return err
	}
	r := pullResult{Onto: kind}
	start := time.Now()
	t := &http.Transport{ReadBufferSize: readSize, DisableCompression: true, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext}
	url := fmt.Sprintf("http://%s/%d", netip.AddrPortFrom(a.Addr, pullPort), a.Bytes)
	resp, err := (&http.Client{Transport: t}).Get(url)
	if err != nil {
		return fmt.Errorf("get the archive: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get the archive: %s", resp.Status)
	}
	if r.Files, r.Bytes, err = unpack(resp.Body, dir); err != nil {
		return err
	}
	r.Elapsed = time.Since(start)
	return json.NewEncoder(w).Encode(r)
}

// mountMemory mounts a file system in memory at unpackRoot, which nobody else sees.
func mountMemory() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", unpackRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount a tmpfs at %s: %w", unpackRoot, err)
	}
	return nil
}

// mountTarget mounts what to unpack onto: an overlay whose layers are in memory, so
// that no disk is measured, or that memory itself where users may mount no overlay.
func mountTarget() (dir, kind string, err error) {
	if err := mountMemory(); err != nil {
		return "", "", err
	}
	var dirs [4]string
	for i, name := range [...]string{"lower", "upper", "work", "merged"} {
		dirs[i] = filepath.Join(unpackRoot, name)
		if err := os.Mkdir(dirs[i], 0o755); err != nil {
			return "", "", fmt.Errorf("make the overlay's directories: %w", err)
		}
	}
	merged := dirs[3]
	// Rootless overlays keep their marks in attributes of users (Linux 5.11).
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr", dirs[0], dirs[1], dirs[2])
	err = unix.Mount("overlay", merged, "overlay", 0, options)
	switch {
	case err == nil:
		return merged, "overlay", nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return merged, "tmpfs", nil
	}
	return "", "", fmt.Errorf("mount an overlay: %w", err)
}
