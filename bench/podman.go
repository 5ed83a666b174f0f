// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Podman's store, its image and its containers' layers are in memory and gone with the
// process that is called stagePodman, as are all mounts. This process does what `podman
// unshare` does: it is root in a user namespace of its own, and tells Podman that this
// is the one to work in. So no set-user-ID program maps users, which could not here.

// podmanPrograms are what a pull by Podman needs on the machine. The last two run in
// the container, which has the host's /usr.
var podmanPrograms = [...]string{"podman", "conmon", "crun", "curl", "tar"}

// The verbs of Podman's that pull.
const (
	podmanRun   = "run"
	podmanBuild = "build"
)

// Files in Podman's memory.
const (
	podmanHome     = unpackRoot + "/home"
	podmanBin      = unpackRoot + "/bin" // the first in PATH
	podmanTools    = unpackRoot + "/tools"
	podmanContext  = unpackRoot + "/context"
	podmanNetns    = unpackRoot + "/netns"
	containersConf = unpackRoot + "/containers.conf"
	storageConf    = unpackRoot + "/storage.conf"
	podmanImage    = unpackRoot + "/image.tar"
)

// benchImage is the image that Podman runs and builds from.
const benchImage = "localhost/bench"

// Podman is to do without control groups and systemd, which not all machines give to a
// plain user, and with an overlay of the kernel's own.
const (
	containersFormat = `
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
network_cmd_path = %q
[network]
default_rootless_network_cmd = "slirp4netns"
`
	storageText = `
[storage]
driver = "overlay"
`
)

// podmanArgs say what Podman is to do.
type podmanArgs struct {
	Verb   string     // podmanRun or podmanBuild
	Addr   netip.Addr // of the peer
	Bytes  int64      // of the archive's files, at least
	MTU    int        // of the container's link
	Tool   string     // the helper's kind
	Helper string     // its program; empty for the direct path
	UID    int        // the plain user's and its group's, outside
	GID    int
}

// podmanResult is what came of it.
type podmanResult struct {
	Elapsed time.Duration `json:"elapsed_ns"` // of the command, and of pasta's start
	Command []string      `json:"command"`
	Helper  []string      `json:"helper,omitempty"` // where Podman did not start it
}

// podman has another process do it: one that may mount file systems.
func podman(a podmanArgs) (r podmanResult, err error) {
	a.UID, a.GID = os.Getuid(), os.Getgid()
	err = inNamespaces(stagePodman, a, &r)
	return r, err
}

// runPodman is that process. It writes its result.
func runPodman(arg string, w io.Writer) error {
	var a podmanArgs
	if err := json.Unmarshal([]byte(arg), &a); err != nil {
		return fmt.Errorf("decode what Podman is to do: %w", err)
	}
	if err := a.furnish(); err != nil {
		return fmt.Errorf("make Podman ready: %w", err)
	}
	if err := a.do("podman", "import", "--quiet", podmanImage, benchImage); err != nil {
		return err
	}
	r := podmanResult{Command: a.command()}
	start := time.Now()
	if a.Tool == "pasta" {
		r.Helper = append([]string{a.Helper}, a.pasta()...)
		if err := a.do(r.Helper...); err != nil {
			return err
		}
	}
	if err := a.do(r.Command...); err != nil {
		return err
	}
	r.Elapsed = time.Since(start)
	if len(r.Helper) > 0 {
		r.Helper[0] = filepath.Base(r.Helper[0])
	}
	return json.NewEncoder(w).Encode(r)
}

// furnish mounts and makes what Podman needs. The helper's program may lie below what is
// mounted over.
func (a podmanArgs) furnish() error {
	program := -1
	if a.Helper != "" {
		var err error
		if program, err = unix.Open(a.Helper, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open %s: %w", a.Helper, err)
		}
		defer unix.Close(program)
	}
	if err := mountMemory(); err != nil {
		return err
	}
	// crun takes no machine that has control groups of both versions.
	if err := unix.Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("hide control groups: %w", err)
	}
	for _, dir := range [...]string{podmanHome, podmanBin, podmanTools, podmanContext} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	files := map[string]string{
		containersConf: fmt.Sprintf(containersFormat, podmanBin+"/slirp4netns"), storageConf: storageText,
		filepath.Join(podmanContext, "Containerfile"): fmt.Sprintf("FROM %s\nRUN %s && rm -r /unpacked\n", benchImage, a.script()),
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := writeImage(podmanImage); err != nil {
		return err
	}
	switch a.Tool {
	case directName:
		return nil
	case "pasta":
		return bindNetns(podmanNetns)
	}
	return installHelper(program, filepath.Base(a.Helper))
}

// installHelper puts the program where Podman finds slirp4netns. Its own name is what
// it is seen to be run by.
func installHelper(program int, name string) error {
	at := filepath.Join(podmanTools, name)
	if err := os.WriteFile(at, nil, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(program), at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show Podman %s: %w", name, err)
	}
	return os.Symlink(at, filepath.Join(podmanBin, "slirp4netns"))
}

// bindNetns makes a network namespace that lasts at the path.
func bindNetns(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	p := newPlace()
	defer p.close()
	return p.do(func() error {
		// Of the namespaces of threads only that of the network is this one's own.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("keep a network namespace: %w", err)
		}
		return nil
	})
}

// writeImage writes an image of nothing but directories, and the links to /usr that
// this machine has. Its programs are those of the host's /usr.
func writeImage(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, dir := range [...]string{"dev", "etc", "proc", "run", "sys", "tmp", "usr", "var"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return fmt.Errorf("write an image: %w", err)
		}
	}
	for _, name := range [...]string{"bin", "lib", "lib64", "sbin"} {
		to, err := os.Readlink("/" + name)
		if err != nil {
			continue // this machine has none, or it is none
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}); err != nil {
			return fmt.Errorf("write an image: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write an image: %w", err)
	}
	return nil
}

// script is what runs in the container: it gets and unpacks the archive, and then waits
// until it has been looked at.
func (a podmanArgs) script() string {
	peer := "http://" + netip.AddrPortFrom(a.Addr, pullPort).String()
	return fmt.Sprintf("mkdir /unpacked && curl -sSf %s/%d | tar -x -C /unpacked && curl -sSf %s%s", peer, a.Bytes, peer, holdPath)
}

// command is Podman's command line.
func (a podmanArgs) command() []string {
	all := []string{"podman", a.Verb, "--volume", "/usr:/usr:ro"}
	switch {
	case a.Tool == directName:
		all = append(all, "--network", "host")
	case a.Tool == "pasta":
		all = append(all, "--network", "ns:"+podmanNetns)
	case a.Verb == podmanRun:
		all = append(all, "--network", fmt.Sprintf("slirp4netns:mtu=%d", a.MTU))
	}
	if a.Verb == podmanBuild {
		return append(all, "--no-cache", "--quiet", "--tag", "localhost/built", podmanContext)
	}
	return append(all, "--rm", benchImage, "sh", "-c", a.script())
}

// pasta are its arguments, for a network namespace that it and Podman are told of.
func (a podmanArgs) pasta() []string {
	return append(pastaFlags(job{MTU: a.MTU, Dir: podmanHome}), "--netns", podmanNetns)
}

// do runs a command with Podman's environment.
func (a podmanArgs) do(argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{
		"PATH=" + podmanBin + ":" + os.Getenv("PATH"), "HOME=" + podmanHome, "XDG_RUNTIME_DIR=" + podmanHome, "TMPDIR=" + podmanHome,
		"CONTAINERS_CONF=" + containersConf, "CONTAINERS_STORAGE_CONF=" + storageConf,
		"_CONTAINERS_USERNS_CONFIGURED=done",
		"_CONTAINERS_ROOTLESS_UID=" + strconv.Itoa(a.UID), "_CONTAINERS_ROOTLESS_GID=" + strconv.Itoa(a.GID),
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv[:min(len(argv), 2)], " "), err, lastLine(said.String()))
	}
	return nil
}
