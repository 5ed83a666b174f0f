// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A Source is a layer as Layer left it.
type Source struct {
	Root   *os.File  // Config.Root
	Aside  *os.File  // Config.Aside
	Recipe io.Reader // what Config.Recipe received
	Paths  []string  // Info.Aside
}

// Rebuild writes the archive that a layer was unpacked from to w, not compressed. The
// caller compares its digest with Info.DiffID: a file may have been changed since. An
// error means that one is missing or has another size, too.
func Rebuild(w io.Writer, src Source) error {
	z, err := zstd.NewReader(src.Recipe, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return fmt.Errorf("read the recipe: %w", err)
	}
	defer z.Close()
	b := &builder{
		recipe: bufio.NewReaderSize(z, recordSize), w: w, buf: make([]byte, smallFile),
		tree: newTree(int(src.Root.Fd()), int(src.Aside.Fd())), aside: map[string][]int{},
	}
	defer b.tree.close()
	for n, p := range src.Paths {
		b.aside[p] = append(b.aside[p], n)
		if strings.HasSuffix(p, "/") {
			b.dirs++
		}
	}
	for {
		more, err := b.part()
		if err != nil || !more {
			return err
		}
	}
}

// A builder makes an archive out of its recipe.
type builder struct {
	recipe *bufio.Reader
	tree   *tree
	// aside is what was put aside and not yet passed, by path, the earliest first; dirs
	// is the number of directories among it
	aside map[string][]int
	dirs  int
	w     io.Writer
	buf   []byte
}

// part writes what one part of the recipe stands for.
func (b *builder) part() (more bool, err error) {
	kind, err := b.recipe.ReadByte()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the recipe: %w", err)
	}
	switch kind {
	case partBytes:
		n, err := b.number(maxBytes)
		if err != nil {
			return false, err
		}
		return true, b.copy(b.recipe, n)
	case partFile:
		size, err := b.number(maxBytes)
		if err != nil {
			return false, err
		}
		p, err := b.path()
		if err != nil {
			return false, err
		}
		if err := b.file(p, size); err != nil {
			return false, fmt.Errorf("file %q of the layer: %w", p, err)
		}
		return true, nil
	case partAside:
		p, err := b.path()
		if err == nil && b.take(p) < 0 {
			err = fmt.Errorf("read the recipe: %q is not aside", p)
		}
		b.dirs--
		return err == nil, err
	}
	return false, fmt.Errorf("read the recipe: unknown part %q", kind)
}

// path reads a path of the recipe.
func (b *builder) path() (string, error) {
	n, err := b.number(maxName + 1)
	if err != nil {
		return "", err
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(b.recipe, p); err != nil {
		return "", fmt.Errorf("read the recipe: %w", eof(err))
	}
	return string(p), nil
}

// take returns the number of the first that was put aside with the path, which is passed
// with that; -1 for none.
func (b *builder) take(p string) int {
	list := b.aside[p]
	if len(list) == 0 {
		return -1
	}
	b.aside[p] = list[1:]
	return list[0]
}

// above returns the number of the first directory above p that was put aside and is not
// yet passed, and the path in it; -1 for none.
func (b *builder) above(p string) (n int, below string) {
	n = -1
	for i := 0; b.dirs > 0 && i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		if list := b.aside[p[:i+1]]; len(list) > 0 && (n < 0 || list[0] < n) {
			n, below = list[0], p[i+1:]
		}
	}
	return n, below
}

// number reads a number of the recipe.
func (b *builder) number(most int64) (int64, error) {
	n, err := binary.ReadUvarint(b.recipe)
	if err != nil {
		return 0, fmt.Errorf("read the recipe: %w", eof(err))
	}
	if n > uint64(most) {
		return 0, fmt.Errorf("read the recipe: a length of %d", n)
	}
	return int64(n), nil
}

// file writes a file's content.
func (b *builder) file(p string, size int64) error {
	fd, err := b.open(p, size)
	if err != nil || fd < 0 {
		return err
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() != size {
		return fmt.Errorf("it is of %d bytes, and was of %d", st.Size(), size)
	}
	return b.copy(f, size)
}

// open opens the file that was unpacked at this point: of several of the same path
// the earlier ones were put aside, alone or with a directory above. One without content
// need not be opened.
func (b *builder) open(p string, size int64) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	n, below := b.above(p)
	if list := b.aside[p]; len(list) > 0 && (n < 0 || list[0] < n) {
		n, below = b.take(p), ""
	}
	switch {
	case size == 0:
		return -1, nil
	case n < 0:
		return b.tree.open(p, flags)
	case below == "":
		return unix.Openat(b.tree.aside, strconv.Itoa(n), flags|unix.O_CLOEXEC, 0)
	}
	dir, err := openNoFollow(b.tree.aside, strconv.Itoa(n))
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return newTree(dir, -1).open(below, flags)
}

// copy writes n bytes of r.
func (b *builder) copy(r io.Reader, n int64) error {
	for n > 0 {
		k, err := io.ReadFull(r, b.buf[:min(n, int64(len(b.buf)))])
		if err != nil {
			return fmt.Errorf("read it: %w", eof(err))
		}
		if _, err := b.w.Write(b.buf[:k]); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		n -= int64(k)
	}
	return nil
}
