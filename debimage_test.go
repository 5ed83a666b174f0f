// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-net/slipway/netstack/attach/attachtest"
)

// A debFile is an entry of a layer that is made of Debian packages.
type debFile struct {
	path     string // without the first slash
	mode     fs.FileMode
	uid, gid int
	link     string // where a symbolic link leads
	content  string // of a file that no package has
	from     string // the file of this machine; empty for others
}

// notInImages begins the names of packages that an image does without: what serves those
// who configure packages, and a compiler that PostgreSQL loads if it is there.
var notInImages = []string{"debconf", "perl", "libperl", "locales", "libllvm", "ssl-cert", "postgresql-common", "postgresql-client-common", "sensible-utils", "iproute2", "dpkg", "tar"}

// notInLayers are files of packages that an image does without.
var notInLayers = []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/", "usr/share/lintian/", "/bitcode/", "/llvmjit", "/man/", "/gconv/"}

// mergedDirs are directories that are links into /usr, though packages have files in them.
var mergedDirs = []string{"bin", "sbin", "lib", "lib64"}

// debClosure is the packages, as they are installed here, with all that they depend on.
func debClosure(t *testing.T, roots ...string) []string {
	t.Helper()
	out, err := exec.Command("dpkg-query", "--show", "--showformat", "${Package}\t${Pre-Depends}, ${Depends}\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, depends, _ := strings.Cut(strings.TrimSpace(line), "\t")
		needs[name] = depends
	}
	found := map[string]bool{}
	var add func(string)
	add = func(name string) {
		leftOut := slices.ContainsFunc(notInImages, func(p string) bool { return strings.HasPrefix(name, p) })
		if _, installed := needs[name]; !installed || leftOut || found[name] {
			return
		}
		found[name] = true
		for depend := range strings.SplitSeq(needs[name], ",") {
			for word := range strings.SplitSeq(depend, "|") {
				if f := strings.Fields(word); len(f) > 0 {
					add(strings.TrimSuffix(f[0], ":any"))
				}
			}
		}
	}
	for _, r := range roots {
		if add(r); !found[r] {
			attachtest.Unavailable(t, "the package "+r+" is not installed")
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// debFiles are the files of the packages, by their paths where /usr is merged.
func debFiles(t *testing.T, packages []string) []debFile {
	t.Helper()
	out, err := exec.Command("dpkg-query", append([]string{"--listfiles"}, packages...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var files []debFile
	for line := range strings.Lines(string(out)) {
		f := debFile{from: strings.TrimSpace(line)}
		f.path = strings.Trim(f.from, "/")
		top, _, below := strings.Cut(f.path, "/")
		if slices.Contains(mergedDirs, top) {
			f.path = "usr/" + f.path
		}
		if f.path == "" || f.path == "." || seen[f.path] || !below && slices.Contains(mergedDirs, top) ||
			slices.ContainsFunc(notInLayers, func(p string) bool { return strings.Contains(f.path, p) }) {
			continue
		}
		seen[f.path] = true
		info, err := os.Lstat("/" + f.path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // diverted, or not ours to read
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		f.from, f.mode = "/"+f.path, info.Mode()
		if f.mode.Type() == fs.ModeSymlink {
			if f.link, err = os.Readlink(f.from); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, f)
	}
	return files
}

// debLayer is the archive of a layer with the files.
func debLayer(t *testing.T, files []debFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := tar.Header{Name: f.path, Mode: int64(f.mode.Perm()), Uid: f.uid, Gid: f.gid, Typeflag: tar.TypeReg, Linkname: f.link, Size: int64(len(f.content))}
		var content io.Reader = strings.NewReader(f.content)
		switch {
		case f.link != "":
			h.Typeflag = tar.TypeSymlink
		case f.mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, f.path+"/"
		case f.from != "":
			from, err := os.ReadFile(f.from)
			if errors.Is(err, fs.ErrPermission) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			content, h.Size = bytes.NewReader(from), int64(len(from))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// debUser is a user of the images beside those of base-passwd.
const debUser = 999

// loadDebImages loads docker.io/library/nginx and docker.io/library/postgres, made of this
// machine's Debian packages as Docker's official images are: they have a layer in common,
// and do as their packages' maintainers configured them.
func (u *imageUser) loadDebImages(t *testing.T) {
	t.Helper()
	attachtest.NeedTools(t, "dpkg-query", "nginx", "pg_ctlcluster")
	server, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(server) == 0 {
		t.Fatalf("no PostgreSQL server in /usr/lib/postgresql: %v", err)
	}
	bin := filepath.Dir(server[len(server)-1])
	version := filepath.Base(filepath.Dir(bin))
	base := debClosure(t, "base-files", "base-passwd", "dash", "coreutils", "sed", "grep", "libc-bin")
	above := func(extra []debFile, roots ...string) []byte {
		packages := slices.DeleteFunc(debClosure(t, roots...), func(p string) bool { return slices.Contains(base, p) })
		return debLayer(t, append(debFiles(t, packages), extra...))
	}
	common := debLayer(t, append(debFiles(t, base), baseExtras(t)...))
	path := "PATH=" + bin + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for name, image := range map[string]struct {
		config map[string]any
		layer  []byte
	}{
		"nginx": {map[string]any{
			"Env": []string{path}, "Cmd": []string{"nginx", "-g", "daemon off;"}, "StopSignal": "SIGQUIT",
			"ExposedPorts": map[string]any{"80/tcp": struct{}{}},
		}, above(nginxExtras(), "nginx")},
		"postgres": {map[string]any{
			"Env": []string{path, "PGDATA=/var/lib/postgresql/data", "LANG=C.UTF-8", "PAGER=cat"}, "User": "postgres", "StopSignal": "SIGINT",
			"Entrypoint": []string{"docker-entrypoint.sh"}, "Cmd": []string{"postgres"},
			"ExposedPorts": map[string]any{"5432/tcp": struct{}{}}, "Volumes": map[string]any{"/var/lib/postgresql/data": struct{}{}},
		}, above(postgresExtras(), "postgresql-"+version, "postgresql-client-"+version)},
	} {
		file := filepath.Join(u.dir, name+".tar")
		writeArchive(t, file, "docker.io/library/"+name+":latest", image.config, common, image.layer)
		if got := u.slipway(t, "load", "-q", "-i", file); got.code != 0 {
			t.Fatalf("load %s: %+v", name, got)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// baseExtras are what Debian's base packages make when they are installed.
func baseExtras(t *testing.T) []debFile {
	t.Helper()
	passwd, err := os.ReadFile("/usr/share/base-passwd/passwd.master")
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.ReadFile("/usr/share/base-passwd/group.master")
	if err != nil {
		t.Fatal(err)
	}
	files := []debFile{
		{path: "etc/passwd", mode: 0o644, content: string(passwd) + "postgres:x:999:999::/var/lib/postgresql:/bin/sh\n"},
		{path: "etc/group", mode: 0o644, content: string(group) + "postgres:x:999:\n"},
		{path: "tmp", mode: fs.ModeDir | 0o777},
	}
	for _, d := range mergedDirs {
		files = append(files, debFile{path: d, link: "usr/" + d})
	}
	return files
}

// nginxExtras are what nginx' packages make when they are installed, and Docker's image.
func nginxExtras() []debFile {
	return []debFile{
		{path: "etc/nginx/sites-enabled/default", link: "/etc/nginx/sites-available/default"},
		{path: "var/log/nginx/access.log", link: "/dev/stdout"},
		{path: "var/log/nginx/error.log", link: "/dev/stderr"},
		{path: "var/www/html/index.html", mode: 0o644, content: "hello from nginx\n"},
	}
}

// postgresEntrypoint makes a cluster where there is none yet.
const postgresEntrypoint = `#!/bin/sh
set -e
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
	mkdir -p "$PGDATA"
	echo "$POSTGRES_PASSWORD" >/tmp/password
	initdb --no-sync --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256
	rm /tmp/password
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
fi
exec "$@"
`

// postgresExtras are what PostgreSQL's packages make, and Docker's image.
func postgresExtras() []debFile {
	own := func(path string, mode fs.FileMode) debFile {
		return debFile{path: path, mode: fs.ModeDir | mode, uid: debUser, gid: debUser}
	}
	return []debFile{
		own("var/lib/postgresql", 0o755), own("var/lib/postgresql/data", 0o700), own("run/postgresql", 0o755),
		{path: "usr/local/bin/docker-entrypoint.sh", mode: 0o755, content: postgresEntrypoint},
	}
}
