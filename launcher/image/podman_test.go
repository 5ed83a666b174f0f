// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/image"
	"github.com/slipway-net/slipway/launcher/store"
)

// podmanStorage writes the lists of a storage, and returns how to name it.
func podmanStorage(t testing.TB, images, layers string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"overlay-images/images.json": images, "overlay-layers/layers.json": layers, "overlay-images/images.lock": "", "overlay-layers/layers.lock": "",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "containers-storage:[overlay@" + dir + "]"
}

// openStorage opens what podmanStorage has named.
func openStorage(ctx context.Context, t testing.TB, spec string) (*image.Local, error) {
	t.Helper()
	transport, path, _ := image.SplitTransport(spec + "box")
	return image.OpenTransport(ctx, transport, path, &store.Store{Config: store.Config{Dir: t.TempDir()}})
}

// TestPodmanStorageHostile looks for images in lists that are not what Podman writes.
func TestPodmanStorageHostile(t *testing.T) {
	id := strings.Repeat("a", 64)
	box := func(layer string) string {
		return `[{"id":"` + id + `","names":["localhost/box:latest"],"layer":"` + layer + `"}]`
	}
	for name, tt := range map[string]struct{ images, layers, want string }{
		"none":              {`[]`, `[]`, "not found"},
		"an id that leads":  {`[{"id":"../x","names":["localhost/box:latest"]}]`, `[]`, "id"},
		"a missing layer":   {box(id), `[]`, "not in Podman's storage"},
		"a layer's name":    {box("../x"), `[{"id":"../x"}]`, "not in Podman's storage"},
		"a loop of layers":  {box(id), `[{"id":"` + id + `","parent":"` + id + `"}]`, "more than"},
		"no manifest":       {box(""), `[]`, "no such file"},
		"two of a name":     {`[{"id":"` + id + `"},{"id":"` + id + `"}]`, `[]`, "not found"},
		"lists of no lists": {`{"a":1}`, `[]`, "cannot unmarshal"},
	} {
		l, err := openStorage(t.Context(), t, podmanStorage(t, tt.images, tt.layers))
		if err == nil {
			_, err = l.Images(t.Context(), "box", image.Platform{})
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestPodmanStorageLocks waits for who changes the storage, and has who wants to wait.
func TestPodmanStorageLocks(t *testing.T) {
	spec := podmanStorage(t, `[]`, `[]`)
	name := filepath.Join(strings.TrimSuffix(strings.TrimPrefix(spec, "containers-storage:[overlay@"), "]"), "overlay-layers/layers.lock")
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(kind int16) error {
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	}
	if err := write(unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	why := errors.New("waited enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if l, err := openStorage(ctx, t, spec); !errors.Is(err, why) {
		t.Errorf("a storage that is being changed is read: %v, %v", l, err)
	}
	if err := write(unix.F_UNLCK); err != nil {
		t.Fatal(err)
	}
	l, err := openStorage(t.Context(), t, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(unix.F_WRLCK); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("while it is read it can be changed: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := write(unix.F_WRLCK); err != nil {
		t.Errorf("a lock stays: %v", err)
	}
}

// FuzzPodmanStorage looks for an image in lists that a stranger wrote.
func FuzzPodmanStorage(f *testing.F) {
	id := strings.Repeat("a", 64)
	f.Add(fmt.Sprintf(`[{"id":%q,"names":["localhost/box:latest"],"layer":%q}]`, id, id), fmt.Sprintf(`[{"id":%q,"diff-digest":"sha256:%s","diff-size":1}]`, id, id))
	f.Fuzz(func(t *testing.T, images, layers string) {
		l, err := openStorage(t.Context(), t, podmanStorage(t, images, layers))
		if err != nil {
			return
		}
		defer l.Close()
		for _, called := range []string{"box", "aaaa"} {
			if got, err := l.Images(t.Context(), called, image.Platform{}); err == nil {
				t.Errorf("an image without a manifest: %v", got)
			}
		}
	})
}
