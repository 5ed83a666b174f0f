// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-net/slipway/launcher/store"
	"github.com/slipway-net/slipway/launcher/tarsplit"
	"github.com/slipway-net/slipway/launcher/userns"
)

// maxStorageList bounds the lists of images and layers, in bytes: some ten thousand.
const maxStorageList = 64 << 20

// storageIDSize is the length of an id of an image or a layer: hexadecimal digits.
const storageIDSize = 64

// A podman is the storage of Podman, Buildah and CRI-O (github.com/containers/storage),
// which is only read. Its lists are locked meanwhile, as those programs do for reading:
// they wait to change anything until Close.
type podman struct {
	root   *os.Root
	driver storageDriver
	ids    userns.Mapping
	locks  []*os.File
	images []storageImage
	layers map[string]storageLayer
}

// A storageDriver says where the storage has the files of a layer.
type storageDriver struct{ name, dir, below string }

// storageDrivers are those whose layers are directories, the usual one first.
func storageDrivers() []storageDriver {
	return []storageDriver{{"overlay", "overlay", "diff"}, {"vfs", "vfs/dir", ""}}
}

// storageImage is an image in images.json.
type storageImage struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
	Layer string   `json:"layer"` // the topmost
}

// storageLayer is a layer in layers.json.
type storageLayer struct {
	ID       string `json:"id"`
	Parent   string `json:"parent"`
	DiffID   string `json:"diff-digest"`
	DiffSize int64  `json:"diff-size"`
}

// splitStorage takes apart what follows "containers-storage:", which may begin with the
// driver and the directory, as in [overlay@/srv/storage]NAME (containers-transports(5)).
func splitStorage(s string) (path, name string) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		if path, name, ok = strings.Cut(rest, "]"); ok {
			return path, name
		}
	}
	return "", s
}

// storageDir is where a user's storage is unless the user says otherwise.
func storageDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/containers/storage", nil
	}
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find Podman's storage: %w: set HOME", err)
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "containers", "storage"), nil
}

// openPodman opens the storage that spec names as splitStorage returns it. The ids are
// those under which its files have their owners. The caller closes it.
func openPodman(ctx context.Context, spec string, ids userns.Mapping) (*podman, error) {
	driver, dir, _ := strings.Cut(spec, "@")
	dir, _, _ = strings.Cut(dir, "+") // the directory of what runs, and options
	if dir == "" {
		var err error
		if dir, err = storageDir(); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open Podman's storage: %w: name another as in containers-storage:[overlay@/DIR]NAME", err)
	}
	p := &podman{root: root, ids: ids}
	for _, d := range storageDrivers() {
		if driver != "" && driver != d.name {
			continue
		}
		p.driver = d
		err := p.load(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			p.unlock()
			continue
		}
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("read Podman's storage %s: %w", dir, err)
		}
		return p, nil
	}
	p.Close()
	return nil, fmt.Errorf("%w: %s is no storage of Podman's with the driver overlay or vfs", ErrImage, dir)
}

// load locks the lists and reads them.
func (p *podman) load(ctx context.Context) error {
	for _, kind := range []string{"images", "layers"} {
		if err := p.lock(ctx, p.driver.name+"-"+kind+"/"+kind+".lock"); err != nil {
			return err
		}
	}
	if err := p.list("images", &p.images); err != nil {
		return err
	}
	var layers []storageLayer
	if err := p.list("layers", &layers); err != nil {
		return err
	}
	p.layers = map[string]storageLayer{}
	for _, l := range layers {
		p.layers[l.ID] = l
	}
	return nil
}

// list reads one of the lists into v.
func (p *podman) list(kind string, v any) error {
	name := p.driver.name + "-" + kind + "/" + kind + ".json"
	b, err := p.file(name, maxStorageList)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (p *podman) file(name string, limit int64) ([]byte, error) {
	r, _, err := dirFiles{p.root}.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readAll(r, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// Close gives the locks back.
func (p *podman) Close() error {
	p.unlock()
	return p.root.Close()
}

// image finds the image that a user calls by a name or by the beginning of its id.
func (p *podman) image(ctx context.Context, called string, platform Platform) (*Image, error) {
	if called == "" {
		return nil, fmt.Errorf("%w: name one, as in containers-storage:NAME", ErrName)
	}
	i, name, err := p.find(strings.TrimPrefix(called, "@"))
	if err != nil {
		return nil, err
	}
	chain, err := p.chain(i)
	if err != nil {
		return nil, err
	}
	img, err := fetch(ctx, storageBlobs{p, i.ID}, v1.Descriptor{}, platform)
	if err != nil {
		return nil, err
	}
	if len(chain) != len(img.Layers) {
		return nil, fmt.Errorf("%w: Podman's storage has %d layers of it, and its manifest %d", ErrImage, len(chain), len(img.Layers))
	}
	for n := range img.Layers {
		l := chain[n]
		if d := img.Layers[n].DiffID; l.DiffID != string(d) {
			return nil, fmt.Errorf("%w: layer %d is %.80q in Podman's storage, want %s: try podman save, and slipway load", ErrImage, n, l.DiffID, d)
		}
		img.Layers[n] = store.Source{DiffID: img.Layers[n].DiffID, Size: max(-1, min(l.DiffSize, maxLayer)), Open: p.opener(l.ID)}
	}
	if name != (Name{}) {
		img.Names = []Name{name}
		return img, nil
	}
	for _, n := range i.Names[:min(len(i.Names), maxNames)] {
		if n, err := ParseName(n); err == nil {
			img.Names = append(img.Names, n)
		}
	}
	return img, nil
}

// find looks for an image. The name is zero if it was found by its id.
func (p *podman) find(called string) (storageImage, Name, error) {
	names, nerr := Candidates(called)
	for _, n := range names {
		for _, i := range p.images {
			if slices.Contains(i.Names, n.String()) {
				return i, n, nil
			}
		}
	}
	var found []storageImage
	for _, i := range p.images {
		if len(called) >= minStorageID && strings.HasPrefix(i.ID, called) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], Name{}, nil
	case len(found) > 1:
		return storageImage{}, Name{}, fmt.Errorf("image %q: %d of Podman's images begin so: give more digits", called, len(found))
	case nerr != nil:
		return storageImage{}, Name{}, nerr
	}
	return storageImage{}, Name{}, fmt.Errorf("image %q in Podman's storage: %w: see podman images", called, store.ErrNotFound)
}

// minStorageID is the least number of digits by which an image can be named.
const minStorageID = 4

// chain lists the layers of an image, the lowest first.
func (p *podman) chain(i storageImage) ([]storageLayer, error) {
	if !isStorageID(i.ID) {
		return nil, fmt.Errorf("%w: an image of the id %.80q", ErrImage, i.ID)
	}
	var chain []storageLayer
	for id := i.Layer; id != ""; {
		l, ok := p.layers[id]
		switch {
		case !ok || !isStorageID(id):
			return nil, fmt.Errorf("%w: layer %.80q is not in Podman's storage", ErrImage, id)
		case len(chain) >= MaxLayers:
			return nil, fmt.Errorf("%w: more than %d layers", ErrImage, MaxLayers)
		}
		chain, id = append(chain, l), l.Parent
	}
	slices.Reverse(chain)
	return chain, nil
}

// isStorageID reports whether s is an id, and so a name of a file without surprises.
func isStorageID(s string) bool {
	return len(s) == storageIDSize && strings.Trim(s, "0123456789abcdef") == ""
}

// opener returns what begins to read a layer.
func (p *podman) opener(id string) func(context.Context) (io.ReadCloser, error) {
	dir := filepath.Join(p.root.Name(), p.driver.dir, id, p.driver.below)
	list := filepath.Join(p.root.Name(), p.driver.name+"-layers", id+".tar-split.gz")
	return func(ctx context.Context) (io.ReadCloser, error) {
		r, err := tarsplit.Open(ctx, p.ids, dir, list)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: Podman keeps no headers of this layer: try podman save, and slipway load", err)
		}
		return r, err
	}
}

// storageBlobs are the manifest and the configuration of an image in the storage.
type storageBlobs struct {
	*podman
	image string
}

func (b storageBlobs) manifest(context.Context, v1.Descriptor) ([]byte, error) {
	return b.data("manifest")
}

func (b storageBlobs) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	c, err := b.data(d.Digest.String())
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(string(c))), nil
}

// data reads a file by what the storage calls it.
func (b storageBlobs) data(key string) ([]byte, error) {
	name := key
	if strings.Trim(key, "0123456789abcdefghijklmnopqrstuvwxyz.") != "" { // makeBigDataBaseName
		name = "=" + base64.StdEncoding.EncodeToString([]byte(key))
	}
	if strings.Contains(name, "/") { // base64 has it, and the storage cannot
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return b.file(b.driver.name+"-images/"+b.image+"/"+name, store.MaxBlob)
}
