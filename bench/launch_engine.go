// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// An engine is what a kind of subject does as a container engine: how its users have it
// do it.
type engine struct {
	networks bool // whether it gives a container a network to the outside
	// prepare makes what its containers run from, once; nil where the root is enough.
	prepare func(ctx context.Context, y *yard, s Subject) error
	// run returns the arguments that run a container; nil where it runs none.
	run func(c container) []string
	// pull returns the commands that pull and unpack the registry's image into the store;
	// nil where it pulls none.
	pull func(c container) [][]string
	// keepID returns the arguments that run that image as the user itself; nil where it
	// cannot.
	keepID func(c container) []string
}

// A container is one that is to be run.
type container struct {
	*yard
	Name    string // of its own
	Path    string // the engine's program
	Network bool   // to the outside
	Hold    bool   // whether its program is to get our standard input
	Store   string // where a pulled image is
	Extra   []string
}

// remote is the name of the image that is pulled.
func (c container) remote() string { return c.registry.addr + "/" + registryName + ":latest" }

// bwrapEngine makes all namespaces; its container has the root as it is, read-only.
// It is the least that one could call a container.
var bwrapEngine = engine{
	run: func(c container) []string {
		return concat([]string{"--unshare-all", "--ro-bind", c.rootfs, "/", "--proc", "/proc", "--dev", "/dev"}, c.Extra, []string{programName, c.line})
	},
}

// crunEngine and runcEngine run a bundle that has the namespaces, ids, masks,
// capabilities and system calls of Podman's containers, and the root as it is,
// read-only.
var (
	crunEngine = engine{prepare: prepareBundle, run: func(c container) []string {
		// There are no control groups that a plain user could use everywhere.
		return concat([]string{"--cgroup-manager=disabled", "run"}, c.Extra, []string{"--bundle", c.bundle(), c.Name})
	}}
	runcEngine = engine{prepare: prepareBundle, run: func(c container) []string {
		return concat([]string{"run"}, c.Extra, []string{"--bundle", c.bundle(), c.Name})
	}}
)

// launchNetworks are the values of --network or --net.
var launchNetworks = map[bool]string{false: "none", true: "slirp4netns"}

// podmanEngine runs an image. Version 4.3, of 2022, networks by slirp4netns.
var podmanEngine = engine{
	networks: true, prepare: preparePodman,
	run: func(c container) []string {
		return concat([]string{"run", "--rm", "--network", launchNetworks[c.Network]}, c.interactive(), c.Extra, []string{benchImage, programName, c.line})
	},
	pull: func(c container) [][]string {
		return [][]string{concat([]string{c.Path}, c.podmanStore(), []string{"pull", "--quiet", "--tls-verify=false", c.remote()})}
	},
	keepID: func(c container) []string {
		return concat(c.podmanStore(), []string{"run", "--rm", "--network", "none", "--userns=keep-id"}, c.interactive(), c.Extra, []string{c.remote(), programName, c.line})
	},
}

// podmanStore are the arguments for a store of its own.
func (c container) podmanStore() []string {
	return []string{"--storage-driver", "overlay", "--root", filepath.Join(c.Store, "root"), "--runroot", filepath.Join(c.memory, filepath.Base(c.Store))}
}

// umociEngine is skopeo and umoci: an image becomes a bundle that crun or runc runs.
var umociEngine = engine{pull: func(c container) [][]string {
	layout := filepath.Join(c.Store, "image") + ":latest"
	return [][]string{
		{"skopeo", "copy", "--quiet", "--src-tls-verify=false", "docker://" + c.remote(), "oci:" + layout},
		{c.Path, "unpack", "--rootless", "--image", layout, filepath.Join(c.Store, "bundle")},
	}
}}

// interactive passes standard input on, where there is some.
func (c container) interactive() []string {
	if c.Hold {
		return []string{"--interactive"}
	}
	return nil
}

// slipwayEngine runs an image.
var slipwayEngine = engine{
	networks: true, prepare: prepareSlipway,
	run: func(c container) []string {
		var network []string
		if !c.Network {
			network = []string{"--net", "none"}
		}
		return concat([]string{"run", "--rm"}, network, c.interactive(), c.Extra, []string{benchImage, programName, c.line})
	},
	pull: func(c container) [][]string {
		return [][]string{{c.Path, "pull", "--quiet", "--tls-verify=false", "--root", c.Store, c.remote()}}
	},
	keepID: func(c container) []string {
		return concat([]string{"run", "--rm", "--root", c.Store, "--net", "none", "--userns=keep-id"}, c.interactive(), c.Extra, []string{c.remote(), programName, c.line})
	},
}

// prepareSlipway loads the root as an image.
func prepareSlipway(ctx context.Context, y *yard, s Subject) error {
	layout := filepath.Join(y.dir, "layout")
	if _, err := writeLayout(layout, benchImage, y.rootLayer); err != nil {
		return err
	}
	_, err := y.do(ctx, prepareTime, s.Path, "load", "--quiet", "--input", layout)
	return err
}

// prepareTime bounds the making of what an engine's containers run from.
const prepareTime = 30 * time.Second

// preparePodman imports the root as an image.
func preparePodman(ctx context.Context, y *yard, s Subject) error {
	image := filepath.Join(y.dir, "rootfs.tar")
	if err := y.writeRoot(image); err != nil {
		return err
	}
	_, err := y.do(ctx, prepareTime, s.Path, "import", "--quiet", image, benchImage)
	return err
}

// writeRoot writes the containers' root as an archive.
func (y *yard) writeRoot(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write an archive: %w", err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := y.rootLayer(w); err != nil {
		return fmt.Errorf("write an archive: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write an archive: %w", err)
	}
	return f.Close()
}
