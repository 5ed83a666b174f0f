// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path"
	"runtime"

	"github.com/slipway-net/slipway/launcher/unlink"
	"github.com/slipway-net/slipway/launcher/unpack"
)

// What a stage can be asked for. Names are paths below the store's directory.
const (
	opUnpack  = "unpack"  // unpackArgs, the blob → unpack.Info
	opRemove  = "remove"  // removeArgs → nothing
	opRebuild = "rebuild" // layerArgs, where the archive goes → nothing
	opOwn     = "own"     // ownArgs → nothing
	opShift   = "shift"   // shiftArgs, where progress goes → nothing
	opVerify  = "verify"  // layerArgs → the digest of the archive
)

type unpackArgs struct {
	Dir    string `json:"dir"` // which is made
	Single bool   `json:"single,omitempty"`
}

type ownArgs struct {
	Names []string `json:"names"`
	UID   int      `json:"uid"`
	GID   int      `json:"gid"`
}

type layerArgs struct {
	Dir   string   `json:"dir"`
	Aside []string `json:"aside,omitempty"`
}

type removeArgs struct {
	Name string `json:"name"`
}

// recipeBuffer is the size in bytes of the writes to a recipe.
const recipeBuffer = 64 << 10

// serveUnpack makes the directory of a layer and fills it.
func serveUnpack(dir *os.Root, raw json.RawMessage, in *os.File) (any, error) {
	var args unpackArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	for _, d := range []string{"", layerFiles, layerAside} {
		mode := os.FileMode(0o700)
		if d == layerFiles {
			mode = 0o755 // of a root that the archive does not tell of
		}
		if err := dir.Mkdir(path.Join(args.Dir, d), mode); err != nil {
			return nil, err
		}
	}
	root, err := dir.Open(path.Join(args.Dir, layerFiles))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	aside, err := dir.Open(path.Join(args.Dir, layerAside))
	if err != nil {
		return nil, err
	}
	defer aside.Close()
	recipe, err := dir.OpenFile(path.Join(args.Dir, layerRecipe), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer recipe.Close()
	buf := bufio.NewWriterSize(recipe, recipeBuffer)
	info, err := unpack.Layer(in, unpack.Config{
		Root: root, Aside: aside, Recipe: buf, Single: args.Single, Writers: runtime.GOMAXPROCS(0),
	})
	if err == nil {
		err = buf.Flush()
	}
	if err != nil {
		return nil, err
	}
	return info, nil
}

// serveRebuild writes the archive of a layer to out.
func serveRebuild(dir *os.Root, raw json.RawMessage, out *os.File) (any, error) {
	return nil, rebuild(dir, raw, out)
}

// serveVerify returns the digest of the archive of a layer.
func serveVerify(dir *os.Root, raw json.RawMessage, _ *os.File) (any, error) {
	sum := sha256.New()
	if err := rebuild(dir, raw, sum); err != nil {
		return nil, err
	}
	return digestOf(sum), nil
}

func rebuild(dir *os.Root, raw json.RawMessage, w io.Writer) error {
	var args layerArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return err
	}
	var open [3]*os.File
	for i, name := range []string{layerFiles, layerAside, layerRecipe} {
		f, err := dir.Open(path.Join(args.Dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		open[i] = f
	}
	return unpack.Rebuild(w, unpack.Source{Root: open[0], Aside: open[1], Recipe: open[2], Paths: args.Aside})
}

// serveOwn gives files to another owner.
func serveOwn(dir *os.Root, raw json.RawMessage, _ *os.File) (any, error) {
	var args ownArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	for _, n := range args.Names {
		if err := dir.Lchown(n, args.UID, args.GID); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// serveRemove removes a file, and all below it.
func serveRemove(dir *os.Root, raw json.RawMessage, _ *os.File) (any, error) {
	var args removeArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	parent, err := dir.Open(path.Dir(args.Name))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return nil, unlink.Tree(int(parent.Fd()), path.Base(args.Name))
}
