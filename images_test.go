// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

func TestRunImage(t *testing.T) {
	u := newImageUser(t)
	run := func(args ...string) []string { return append([]string{"run", "--net=none"}, args...) }
	u.says(t, "default", run("box")...)
	u.says(t, "hi", run("box", "echo", "hi")...)
	u.says(t, "hi", run("box", "--", "echo", "hi")...)
	u.says(t, "image /tmp", run("box", "sh", "-c", "echo $KEY $PWD")...)
	u.says(t, "mine /bin", run("-e", "KEY=mine", "-w", "/bin", "box", "sh", "-c", "echo $KEY $PWD")...)
	u.says(t, "x y", run("--entrypoint", "echo", "box", "x", "y")...)
	u.says(t, "x default y", run("--entrypoint", `["echo","x","default"]`, "box", "y")...)
	u.says(t, "0 0 0:42 8:8", run("box", "sh", "-c", "echo $(id -u) $(id -g) $(stat -c %u:%g /etc/shadow /home/mail)")...)
	u.says(t, "0 755", run("box", "stat", "-c", "%u %a", "/")...)
	// What one writes, the next does not see.
	u.says(t, "gone", run("box", "sh", "-c", "echo x >/etc/x; rm -r /home /var && mkdir /home && echo gone")...)
	u.says(t, "mail", run("box", "sh", "-c", "ls /home; ls -d /var/x /etc/x 2>/dev/null; true")...)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{run("--pull=never", "nowhere"), 125, "not here"},
		{run("--pull=sometimes", "box"), 2, "always, missing or never"},
		{run("box", "nothing"), 127, "nothing"},
		{run("BOX"), 125, "invalid image name"},
		{run("--entrypoint", "[", "box"), 2, "JSON"},
		{[]string{"run"}, 2, "IMAGE"},
		{[]string{"rmi", "nowhere"}, 1, "not found"},
		{[]string{"tag", "box", "UPPER"}, 1, "invalid image name"},
		{[]string{"load", "-i", "/dev/null"}, 1, "neither"},
		{[]string{"load", "-i", "/nowhere"}, 1, "no such file"},
		{[]string{"save", "nowhere"}, 1, "not found"},
		{[]string{"pull", "--platform=x/y/z/w", "box"}, 2, "OS/ARCH"},
	} {
		got := u.slipway(t, tt.args...)
		if got.code != tt.code || !strings.Contains(got.stderr, tt.want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("slipway %s: %+v, want code %d and one line with %q", strings.Join(tt.args, " "), got, tt.code, tt.want)
		}
	}
}

// TestRunUserNS runs with ids for which the image's files need other owners.
func TestRunUserNS(t *testing.T) {
	u := newImageUser(t)
	me := strconv.Itoa(os.Getuid())
	// A volume where the image has nothing is the caller's own.
	u.says(t, "mine", "run", "--net=none", "--userns=keep-id", "-v", "own:/new", "box", "sh", "-c", "touch /new/x && echo mine")
	// Who is in the image keeps his name, and who is not gets his own.
	u.says(t, currentName(t)+" /tmp\nroot\nmail\n"+currentName(t), "run", "--net=none", "--userns=keep-id", "box", "sh", "-c", "echo $(id -un) $HOME; while IFS=: read -r name x; do echo $name; done </etc/passwd")
	u.says(t, "mail", "run", "--net=none", "--userns=keep-id:uid=8,gid=8", "box", "id", "-un")
	script := "echo $(id -u) $(stat -c %u:%g / /bin/busybox /etc/shadow /home/mail); echo x >>/etc/passwd; rm -r /home && ls -d /home 2>/dev/null"
	for _, tt := range []struct{ flag, want string }{
		{"keep-id", me + " 0:0 0:0 0:42 8:8"},
		{"keep-id:uid=8,gid=8", "8 0:0 0:0 0:42 8:8"},
		{"nomap", "0 0:0 0:0 0:42 8:8"},
		{"auto", "0 0:0 0:0 0:42 8:8"},
		{"single", "0 0:0 0:0 0:0 0:0"},
	} {
		for range 2 { // the second time it is there already
			got := u.slipway(t, "run", "--net=none", "--userns="+tt.flag, "-u", "0", "box", "sh", "-c", script)
			first, _, _ := strings.Cut(tt.want, " ")
			if want := strings.Replace(tt.want, first, "0", 1); !strings.HasPrefix(got.stdout, want) {
				t.Errorf("--userns=%s: %+v, want %q", tt.flag, got, want)
			}
		}
		u.says(t, strings.Fields(tt.want)[0], "run", "--net=none", "--userns="+tt.flag, "box", "id", "-u")
		if tt.flag != "single" { // everybody's content is there
			u.says(t, "secret letter", "run", "--net=none", "--userns="+tt.flag, "-u", "0", "box", "sh", "-c", "echo $(cat /etc/shadow /home/mail)")
		}
	}
	if left, err := os.ReadDir(filepath.Join(u.dir, "home/.local/share/slipway/writable")); err != nil || len(left) > 0 {
		t.Errorf("what containers wrote is left: %v (%v)", left, err)
	}
}

// TestStorageDriver runs without overlayfs: each container has a copy of the image.
func TestStorageDriver(t *testing.T) {
	u := newImageUser(t)
	for _, ids := range []string{"host", "keep-id", "auto"} {
		for range 2 { // what one removes, the other has
			u.says(t, "0:0 0:42 8:8 secret", "run", "-q", "--net=none", "--storage-driver=copy", "--userns="+ids, "-u", "0", "box",
				"sh", "-c", "echo $(stat -c %u:%g /bin/busybox /etc/shadow /home/mail) $(cat /etc/shadow); rm -r /home /etc/shadow")
		}
	}
	for _, d := range []string{"copy", "fuse-overlayfs"} { // it is started by what it was made with
		if d == "fuse-overlayfs" {
			needFuse(t)
		}
		u.slipway(t, "run", "-d", "-q", "--net=none", "--name", d, "--storage-driver", d, "box", "sh", "-c", "test -e /tmp/was && echo again; >/tmp/was")
		u.says(t, "0", "wait", d)
		u.says(t, d, "start", d)
		u.says(t, "0", "wait", d)
		u.says(t, "again", "logs", d)
		u.says(t, d, "rm", d)
	}
	u.says(t, "hi", "run", "--net=none", "--storage-driver=overlay", "box", "echo", "hi")
	if got := u.slipway(t, "run", "--storage-driver=tape", "box"); got.code != 2 || !strings.Contains(got.stderr, "auto, overlay, fuse-overlayfs or copy") {
		t.Errorf("an unknown driver: %+v", got)
	}
	if got := u.slipway(t, "doctor"); !strings.Contains(got.stdout, "layers of images are mounted") {
		t.Errorf("doctor does not tell of layers: %+v", got)
	}
}

// TestReadOnlyStore has a store on a file system that is mounted read-only.
func TestReadOnlyStore(t *testing.T) {
	u := newImageUser(t)
	u.says(t, "hi", "run", "--net=none", "box", "echo", "hi")
	dir := filepath.Join(u.dir, "home/.local/share/slipway")
	u.Host.Exec(t, "sh", "-c", "mount --bind "+dir+" "+dir+" && mount -o remount,bind,ro "+dir)
	u.says(t, "0:0 0:42", "run", "--net=none", "--read-only", "box", "sh", "-c", "echo $(stat -c %u:%g /bin/busybox /etc/shadow); true 2>/dev/null >/etc/x || true")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "--net=none", "box"}, "run with --read-only"},
		{[]string{"run", "--net=none", "--read-only", "--storage-driver=copy", "box"}, "read-only"},
		{[]string{"rmi", "box"}, "read-only file system"},
		{[]string{"load", "-i", "box.tar"}, "read-only file system"},
	} {
		got := u.slipway(t, tt.args...)
		if got.code == 0 || !strings.Contains(got.stderr, tt.want) {
			t.Errorf("slipway %s: %+v, want %q", strings.Join(tt.args, " "), got, tt.want)
		}
	}
	if got := u.slipway(t, "save", "-o", "again.tar", "box"); got.code != 0 || got.stderr != "" {
		t.Errorf("save: %+v", got)
	}
	u.Host.Exec(t, "umount", dir)
}

// TestCompressedArchive loads an archive that is compressed as a whole, and one through
// a pipe.
func TestCompressedArchive(t *testing.T) {
	u := newImageUser(t)
	attachtest.NeedTools(t, "gzip", "bzip2")
	for _, c := range []string{"gzip", "bzip2"} {
		if got := u.slipway(t, "rmi", "box"); got.code != 0 {
			t.Errorf("rmi: %+v", got)
		}
		u.Host.Exec(t, "sh", "-c", c+" -c "+u.dir+"/box.tar >"+u.dir+"/box.tar.x; chmod 644 "+u.dir+"/box.tar.x")
		u.says(t, "Loaded image: localhost/box:latest", "load", "-q", "-i", "box.tar.x")
		u.says(t, "hi", "run", "--net=none", "docker-archive:box.tar.x", "echo", "hi")
	}
	if got := u.run(t, "sh", "-c", "cat box.tar.x | "+binary(t)+" load -q"); got.code != 0 {
		t.Errorf("through a pipe: %+v", got)
	}
	u.Host.Exec(t, "sh", "-c", "head -c 5000 "+u.dir+"/box.tar.x >"+u.dir+"/half.x; chmod 644 "+u.dir+"/half.x")
	if got := u.slipway(t, "load", "-i", "half.x"); got.code == 0 || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("half an archive: %+v", got)
	}
}

// TestDiskFull loads onto a disk that is too small, and then onto one that is not.
func TestDiskFull(t *testing.T) {
	u := newImageUser(t)
	small := filepath.Join(u.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	u.Host.Exec(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=1m,mode=700,uid=%d,gid=%d", os.Getuid(), os.Getgid()), "small", small)
	defer u.Host.Exec(t, "umount", small)
	root := filepath.Join(small, "store")
	got := u.slipway(t, "load", "--root", root, "-q", "-i", filepath.Join(u.dir, "box.tar"))
	if got.code != 1 || !strings.Contains(got.stderr, "no space left on device") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("load onto a full disk: %+v", got)
	}
	if got := u.run(t, "find", root, "-mindepth", "2", "!", "-name", "gc"); got.stdout != "" {
		t.Errorf("after a full disk there is\n%s", got.stdout)
	}
	u.Host.Exec(t, "mount", "-o", "remount,size=64m", small)
	u.says(t, "Loaded image: localhost/box:latest", "load", "--root", root, "-q", "-i", filepath.Join(u.dir, "box.tar"))
	u.says(t, "hi", "run", "--root", root, "--net=none", "box", "echo", "hi")
	u.slipway(t, "rmi", "--root", root, "-a")
}

// TestSingleUser has no subordinate ids: all files are the user's, and that is said.
func TestSingleUser(t *testing.T) {
	u := newImageUser(t)
	u.Host.Exec(t, "sh", "-c", "echo >/mnt/sub")
	defer u.Host.Exec(t, "sh", "-c", "echo $0:10000:50000 >/mnt/sub", os.Getenv("USER"))
	root := filepath.Join(u.dir, "single")
	got := u.slipway(t, "load", "--root", root, "-q", "-i", filepath.Join(u.dir, "box.tar"))
	if got.code != 0 || !strings.Contains(got.stderr, "usermod --add-subuids") {
		t.Errorf("load: %+v, want success and how to get ids", got)
	}
	got = u.slipway(t, "run", "--root", root, "--net=none", "box", "sh", "-c", "echo $(stat -c %u:%g /etc/shadow /home/mail) $(cat /etc/shadow)")
	if got.code != 0 || got.stdout != "0:0 0:0 secret\n" {
		t.Errorf("run: %+v", got)
	}
	u.slipway(t, "rmi", "--root", root, "-a")
}

// TestImageNames names images, and takes names away.
func TestImageNames(t *testing.T) {
	u := newImageUser(t)
	id := strings.TrimSpace(u.slipway(t, "images", "-q").stdout)
	u.says(t, "", "tag", "box", "example.com/a/b:c", "other")
	for _, name := range []string{"box", "localhost/box:latest", id, "sha256:" + id, id[:4], "example.com/a/b:c", "docker.io/library/other", "other"} {
		u.says(t, "hi", "run", "--net=none", name, "echo", "hi")
	}
	u.says(t, "Untagged: localhost/box:latest", "rmi", "box")
	if got := u.slipway(t, "rmi", id); got.code != 1 || !strings.Contains(got.stderr, "several names") {
		t.Errorf("rmi of an id with two names: %+v", got)
	}
	var rows []struct{ Names []string }
	if err := json.Unmarshal([]byte(u.slipway(t, "images", "--json").stdout), &rows); err != nil || len(rows) != 1 || len(rows[0].Names) != 2 {
		t.Errorf("images %+v (%v), want one with two names", rows, err)
	}
	if got := u.slipway(t, "rmi", "-f", id); got.code != 0 {
		t.Errorf("rmi -f: %+v", got)
	}
	u.says(t, "[]", "images", "--json")
}

// TestImageInUse removes an image over which a container has written.
func TestImageInUse(t *testing.T) {
	u := newImageUser(t)
	if got := u.slipway(t, "run", "-d", "--name=c", "--net=none", "box", "touch", "/etc/written"); got.code != 0 {
		t.Fatalf("run: %+v", got)
	}
	u.slipway(t, "wait", "c")
	if got := u.slipway(t, "rmi", "box"); got.code != 1 || !strings.Contains(got.stderr, "a container uses it") {
		t.Errorf("rmi: %+v", got)
	}
	u.says(t, "removed 0 images, 0 layers and the files of 0 containers: 0 B of layers", "gc")
	u.says(t, "c", "rm", "c")
	if got := u.slipway(t, "rmi", "box"); got.code != 0 {
		t.Errorf("rmi: %+v", got)
	}
}

// TestPodmanPeer moves an image to Podman and back. It is the same one all the time.
func TestPodmanPeer(t *testing.T) {
	attachtest.NeedTools(t, "podman", "skopeo")
	u := newImageUser(t)
	id := strings.TrimSpace(u.slipway(t, "images", "-q").stdout)
	podman := func(args ...string) string {
		t.Helper()
		got := u.run(t, append([]string{"podman", "--root", u.dir + "/podman", "--runroot", u.dir + "/podrun", "--events-backend=none", "--cgroup-manager=cgroupfs"}, args...)...)
		if got.code != 0 {
			t.Fatalf("podman %s: %+v", strings.Join(args, " "), got)
		}
		return strings.TrimSpace(got.stdout)
	}
	ours := filepath.Join(u.dir, "ours.tar")
	u.says(t, "", "save", "-o", ours, "box")
	podman("load", "-q", "-i", ours)
	if got := podman("images", "-q", "--no-trunc", "localhost/box"); !strings.HasPrefix(got, "sha256:"+id) {
		t.Errorf("in Podman the image is %s, want %s", got, id)
	}
	for _, format := range []string{"docker-archive", "oci-archive", "oci-dir"} {
		t.Run(format, func(t *testing.T) {
			theirs := filepath.Join(u.dir, format)
			podman("save", "-q", "--format", format, "-o", theirs, "localhost/box:latest")
			u.slipway(t, "rmi", "-f", "box")
			if got := u.slipway(t, "load", "-q", "-i", theirs); got.code != 0 {
				t.Fatalf("load: %+v", got)
			}
			if got := strings.TrimSpace(u.slipway(t, "images", "-q").stdout); got != id {
				t.Errorf("from Podman the image is %s, want %s", got, id)
			}
			u.says(t, "hi", "run", "--net=none", id, "echo", "hi")
			u.slipway(t, "tag", id, "localhost/box")
		})
	}
	for _, from := range []string{"docker-archive:", "oci-archive:"} {
		if got := u.run(t, "skopeo", "inspect", "--config", from+ours); got.code != 0 {
			t.Errorf("skopeo inspect %s: %+v", from, got)
		}
	}
}

// TestDockerRegistry pulls from Docker's own registry, which wants a password.
func TestDockerRegistry(t *testing.T) {
	attachtest.NeedTools(t, "docker-registry", "skopeo")
	u := newImageUser(t)
	id := strings.TrimSpace(u.slipway(t, "images", "-q").stdout)
	host := dockerRegistry(t, u)
	ours := filepath.Join(u.dir, "ours.tar")
	u.says(t, "", "save", "-o", ours, "box")
	push := u.run(t, "skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds=user:secret", "docker-archive:"+ours, "docker://"+host+"/some/box:v1")
	if push.code != 0 {
		t.Fatalf("push: %+v", push)
	}
	u.slipway(t, "rmi", "-f", "box")
	ref := host + "/some/box:v1"
	if got := u.slipway(t, "pull", "-q", ref); got.code != 1 || !strings.Contains(got.stderr, "podman login") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("pull without a password: %+v", got)
	}
	// The files that `podman login` and `docker login` write.
	auth := fmt.Sprintf(`{"auths":{%q:{"auth":"dXNlcjpzZWNyZXQ="}}}`, host)
	for _, name := range []string{"run/containers/auth.json", "home/.docker/config.json", "extra.json"} {
		path := filepath.Join(u.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(auth), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"run", "-q", "--net=none", "--pull=always", ref, "echo", "hi"}
		if name == "extra.json" {
			args = append([]string{"run", "--authfile", path}, args[1:]...)
		}
		u.says(t, "hi", args...)
		if got := strings.TrimSpace(u.slipway(t, "images", "-q").stdout); got != id {
			t.Errorf("from the registry the image is %s, want %s", got, id)
		}
		u.slipway(t, "rmi", "-f", ref)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// dockerRegistry starts Docker's registry on loopback for the user "user" with the
// password "secret", and returns its address.
func dockerRegistry(t *testing.T, u *imageUser) string {
	t.Helper()
	const addr = "127.0.0.1:5000"
	// bcrypt of "secret".
	const hash = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
	for name, content := range map[string]string{
		"htpasswd": hash,
		"registry.yml": fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %q}\nauth: {htpasswd: {realm: test, path: %s/htpasswd}}\n",
			u.dir, addr, u.dir),
	} {
		if err := os.WriteFile(filepath.Join(u.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u.Host.Start(t, u.AsUser(u.env, "docker-registry", "serve", filepath.Join(u.dir, "registry.yml"))...)
	attachtest.Eventually(t, "the registry answers", func() bool {
		_, code := u.Host.Run(t, "curl", "-s", "-o", "/dev/null", "http://"+addr+"/v2/")
		return code == 0
	})
	return addr
}

// currentName is the name of this process's user.
func currentName(t *testing.T) string {
	t.Helper()
	me, err := osuser.Current()
	if err != nil {
		t.Fatal(err)
	}
	return me.Username
}
