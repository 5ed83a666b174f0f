// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// boxImage is the image that the tests run. It has busybox and socat.
const boxImage = "localhost/box"

// A podman is a machine whose plain user has Podman and Buildah, with a subject for
// its network.
type podman struct {
	*attachtest.Machine
	s    subject
	root bool     // it is the machine's root whose they are
	dir  string   // all that they write is below
	env  []string // theirs
}

// configs are the files that Podman and Buildah read, but for the paths in them.
// There are neither control groups nor systemd.
// Root's Podman would listen at published ports itself, for rules of iptables to redirect.
const (
	containersConf = `
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
network_cmd_path = %q
enable_port_reservation = false
`
	storageConf = `
[storage]
driver = "overlay"
graphroot = %q
runroot = %q
`
)

// podmanPath is where Podman and Buildah find what they run.
const podmanPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

// newPodman makes a machine, and an image in it.
func newPodman(t *testing.T, s subject, image string) *podman {
	t.Helper()
	return newPodmanAs(t, s, image, false, func(string) string { return "" })
}

// newPodmanAs is newPodman for the plain user, or for root of the machine, with more
// configuration, which is told the directory that everything is below.
func newPodmanAs(t *testing.T, s subject, image string, root bool, more func(dir string) string) *podman {
	t.Helper()
	dir, err := os.MkdirTemp("", "pod") // short: sockets are below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("something is left: %v", err)
		}
	})
	m := attachtest.NewMachine(t)
	p := &podman{Machine: m, s: s, dir: dir, root: root}
	// What it writes belongs to ids that only the machine's root may remove.
	t.Cleanup(func() {
		m.Host.Exec(t, "sh", "-c", `umount -R "$1"/* "$1"/graph/overlay 2>/dev/null; rm -rf "$1"/*`, "sh", dir)
	})
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"home", "run", "tmp"} {
		if err := os.Mkdir(path(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.write(t, "containers.conf", fmt.Sprintf(containersConf, s.path)+more(dir))
	p.write(t, "storage.conf", fmt.Sprintf(storageConf, path("graph"), path("runroot")))
	p.env = []string{
		"CONTAINERS_CONF=" + path("containers.conf"), "CONTAINERS_STORAGE_CONF=" + path("storage.conf"),
		"HOME=" + path("home"), "XDG_RUNTIME_DIR=" + path("run"), "TMPDIR=" + path("tmp"),
		"USER=" + os.Getenv("USER"), "PATH=" + podmanPath,
	}
	if root {
		p.env = slices.DeleteFunc(p.env, func(v string) bool { return strings.HasPrefix(v, "XDG_RUNTIME_DIR=") })
		m.Host.Exec(t, "sh", "-c", "for dir in /run /var/lib /dev/shm; do mount -t tmpfs machine $dir; done")
	}
	p.exec(t, "podman", "import", "--quiet", image, boxImage)
	return p
}

func (p *podman) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// exec runs a command of the user and returns what it wrote.
func (p *podman) exec(t *testing.T, argv ...string) string {
	t.Helper()
	return p.Host.Exec(t, p.asUser(argv...)...)
}

// start starts a command of the user.
func (p *podman) start(t *testing.T, argv ...string) *attachtest.Process {
	t.Helper()
	return p.Host.Start(t, p.asUser(argv...)...)
}

func (p *podman) asUser(argv ...string) []string {
	if p.root {
		return append(append([]string{"env", "-i"}, p.env...), argv...)
	}
	return p.AsUser(p.env, argv...)
}

// byPath returns a command for which the subject is the first slirp4netns in PATH. That
// is what Buildah takes, and Podman when it builds, whatever network_cmd_path says.
func (p *podman) byPath(argv ...string) []string {
	return append([]string{"env", "PATH=" + filepath.Dir(p.s.path) + ":" + podmanPath}, argv...)
}

// helpers returns what runs in the machine as slirp4netns: the path of each one's
// program, however it was called.
func (p *podman) helpers(t *testing.T) string {
	t.Helper()
	out, _ := p.Host.Run(t, "sh", "-c", `for pid in $(pgrep -x slirp4netns); do readlink /proc/$pid/exe; done`)
	return strings.TrimSpace(out)
}

// expectHelper says so if what networks the containers is not one process of the subject.
func (p *podman) expectHelper(t *testing.T) {
	t.Helper()
	want, err := filepath.EvalSymlinks(p.s.path)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.helpers(t); got != want {
		t.Errorf("the container is networked by %q, want %q", got, want)
	}
}

// expectNothing waits until a removed container has left neither a helper nor, with
// ours, a socket: Podman ends it by a signal, and then the real one leaves that.
func (p *podman) expectNothing(t *testing.T) {
	t.Helper()
	attachtest.Eventually(t, "nothing is left behind", func() bool {
		sockets := p.Host.Exec(t, "find", p.dir, "-path", "*/graph", "-prune", "-o", "-name", "*.net", "-print")
		return p.helpers(t) == "" && (sockets == "" || !p.s.ours)
	})
}

// boxArchive writes the file system of boxImage, from what this machine has.
func boxArchive(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "box.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	files := map[string]string{} // where from, by name
	for _, tool := range []string{"busybox", "socat"} {
		from, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		files["/bin/"+tool] = from
		for _, lib := range libraries(t, from) {
			files[lib] = lib
		}
	}
	for to, from := range files {
		addFile(t, w, from, to)
	}
	applets := strings.Fields(finish(t, exec.Command("busybox", "--list")).stdout)
	for _, name := range slices.DeleteFunc(applets, func(s string) bool { return s == "busybox" }) {
		h := &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox", Mode: 0o777}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// libraries returns the paths of what a program is linked with, as its loader says.
func libraries(t *testing.T, program string) []string {
	t.Helper()
	var paths []string
	// It fails for a program that is linked with nothing.
	for line := range strings.Lines(finish(t, exec.Command("ldd", program)).stdout) {
		for _, word := range strings.Fields(line) {
			if filepath.IsAbs(word) {
				paths = append(paths, word)
			}
		}
	}
	return paths
}

// addFile adds a file that belongs to root.
func addFile(t *testing.T, w *tar.Writer, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	const mode fs.FileMode = 0o755
	h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(to, "/"), Size: int64(len(b)), Mode: int64(mode)}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}
