// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// needPodman skips where Podman is missing, which CI forbids.
func needPodman(t *testing.T) {
	t.Helper()
	needUserNamespaces(t)
	for _, name := range append(podmanPrograms[:], "slirp4netns", "pasta") {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%v: run scripts/test-setup", err)
			}
			t.Skipf("%v: run scripts/test-setup", err)
		}
	}
	if err := openTun(tunPath); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v: run scripts/test-setup", err)
		}
		t.Skip(err)
	}
}

// TestPodmanPull has Podman run and build with each helper: each carries its own, and
// nothing stays behind.
func TestPodmanPull(t *testing.T) {
	needPodman(t)
	dir := openDir(t)
	temp := filepath.Join(dir, "temp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(temp, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "out.json")
	t.Setenv("TMPDIR", temp)
	o, err := ParseOptions(strings.Fields("-cases ^pull/podman -subjects direct,slirp4netns,pasta,rootlesskit,slipway@"+slipwayFor(t, dir)+
		" -duration 50ms -repeat 2 -mtu 65520 -cc reno -user nobody"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o.Out = file
	var out, progress bytes.Buffer
	if err := runFront(t.Context(), o, []string{"bench"}, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	carriers := map[string]string{}
	for _, rec := range loadReport(t, file).Records {
		if rec.Err != "" || rec.Values["time"] <= 0 || rec.Proof == nil {
			t.Errorf("%s %s: values %v, proof %v, error %q", rec.Case, rec.Subject, rec.Values, rec.Proof, rec.Err)
			continue
		}
		name, _, _ := strings.Cut(rec.Subject, "@")
		carriers[rec.Case+" "+name] = strings.TrimSuffix(rec.Proof.Exe, ".avx2")
	}
	want := map[string]string{}
	for _, verb := range [...]string{podmanRun, podmanBuild} {
		for name, exe := range map[string]string{directName: "curl", "slirp4netns": "slirp4netns", "pasta": "passt", "slipway": "slipway"} {
			want[podmanPrefix+verb+" "+name] = exe
		}
	}
	if diff := cmp.Diff(want, carriers); diff != "" {
		t.Errorf("who carried it (-want +got):\n%s", diff)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("stayed behind: %v, error %v", left, err)
	}
}

func TestPodmanCommands(t *testing.T) {
	const peer = "http://10.97.0.2:7301/"
	pulled := []string{"--rm", benchImage, "sh", "-c", "mkdir /unpacked && curl -sSf " + peer + "5 | tar -x -C /unpacked && curl -sSf " + peer + "hold"}
	built := []string{"--no-cache", "--quiet", "--tag", "localhost/built", podmanContext}
	for _, c := range []struct {
		verb, tool string
		want       []string
	}{
		{podmanRun, directName, append([]string{"--network", "host"}, pulled...)},
		{podmanRun, "pasta", append([]string{"--network", "ns:" + podmanNetns}, pulled...)},
		{podmanRun, "slirp4netns", append([]string{"--network", "slirp4netns:mtu=1500"}, pulled...)},
		{podmanRun, "slipway", append([]string{"--network", "slirp4netns:mtu=1500"}, pulled...)},
		{podmanBuild, directName, append([]string{"--network", "host"}, built...)},
		{podmanBuild, "pasta", append([]string{"--network", "ns:" + podmanNetns}, built...)},
		{podmanBuild, "slipway", built},
	} {
		a := podmanArgs{Verb: c.verb, Addr: netip.MustParseAddr(peerAddr4), Bytes: 5, MTU: 1500, Tool: c.tool}
		if diff := cmp.Diff(append([]string{"podman", c.verb, "--volume", "/usr:/usr:ro"}, c.want...), a.command()); diff != "" {
			t.Errorf("%s with %s (-want +got):\n%s", c.verb, c.tool, diff)
		}
	}
}

// TestPodmanTakes looks at which subjects Podman can be given.
func TestPodmanTakes(t *testing.T) {
	for subject, want := range map[string]bool{
		"direct": true, "slirp4netns": true, "pasta": true, "slipway": true, "old=slipway@/tmp/old": true,
		"rootlesskit": false, "gvisor-tap-vsock": false, "slipway+--accel=off": false, "slipway#^tcp/": false,
	} {
		s, err := ParseSubject(subject)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.takesPart(podmanCase{podmanRun}); got != want {
			t.Errorf("%s takes part: %v, want %v", subject, got, want)
		}
	}
}

// TestPodmanFits asks for what Podman does not do.
func TestPodmanFits(t *testing.T) {
	ours, direct := Subject{Tool: ownTool}, Subject{Tool: directName}
	for _, c := range []struct {
		verb string
		step step
		size string
		want string
	}{
		{podmanRun, step{Subject: ours, Family: 4, MTU: 1500}, "-duration 50ms", ""},
		{podmanBuild, step{Subject: ours, Family: 4, MTU: podmanMTU}, "-duration 50ms", ""},
		{podmanBuild, step{Subject: direct, Family: 4, MTU: 1500}, "-duration 50ms", ""},
		{podmanBuild, step{Subject: ours, Family: 4, MTU: 1500}, "-duration 50ms", "not IPv4 and 1500"},
		{podmanRun, step{Subject: direct, Family: 6, MTU: podmanMTU}, "-duration 50ms", "not IPv6 and 65520"},
		{podmanRun, step{Subject: direct, Family: 4, MTU: podmanMTU}, "-duration 100h", "unpacked into memory"},
	} {
		err := podmanCase{c.verb}.fits(&bout{plan: planFor(t, c.size), step: c.step})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %+v: error %v, want %q", c.verb, c.step, err, c.want)
		}
	}
	if got := availableMemory("MemTotal: 8 kB\nMemAvailable:   3 kB\n"); got != 3<<10 {
		t.Errorf("available: %d", got)
	}
	if got := availableMemory(""); got != 0 {
		t.Errorf("available of nothing: %d", got)
	}
}

func TestPodmanImage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := writeImage(path); err != nil {
		t.Fatal(err)
	}
	if err := writeImage(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	links := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		links[h.Name] = h.Linkname
	}
	if to, there := links["usr"]; !there || to != "" {
		t.Errorf("no directory for /usr: %v", links)
	}
	if to, err := os.Readlink("/bin"); err == nil && links["bin"] != to {
		t.Errorf("bin leads to %q, want %q", links["bin"], to)
	}
}
