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

// servePull serves archives over HTTP, of as many bytes as the path says, until the
// process ends.
func servePull() error {
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(pullPort)))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := &http.Server{ReadHeaderTimeout: dialTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	})}
	go s.Serve(l)
	return nil
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

// pull has another process get and unpack an archive: one that may mount file systems,
// in namespaces of its own. The network is that of this process.
func pull(a pullArgs) (pullResult, error) {
	args, err := json.Marshal(a)
	if err != nil {
		return pullResult{}, fmt.Errorf("encode what to pull: %w", err)
	}
	cmd := exec.Command(selfExe, stageUnpack, string(args))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGKILL,
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var said strings.Builder
	cmd.Stderr = &said
	var out strings.Builder
	cmd.Stdout = &out
	p := newPlace() // the death signal is that of a thread
	defer p.close()
	if err := p.start(cmd); err != nil {
		return pullResult{}, fmt.Errorf("start unpacking: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return pullResult{}, fmt.Errorf("unpack: %w: %s", err, lastLine(said.String()))
	}
	var r pullResult
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		return r, fmt.Errorf("decode what was pulled: %w", err)
	}
	return r, nil
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

// mountTarget mounts what to unpack onto: an overlay whose layers are in memory, so
// that no disk is measured, or that memory itself where users may mount no overlay.
func mountTarget() (dir, kind string, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", "", fmt.Errorf("keep mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", unpackRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return "", "", fmt.Errorf("mount a tmpfs at %s: %w", unpackRoot, err)
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
