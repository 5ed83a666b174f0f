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
	aside  map[string][]int // the files that were put aside, by path, the earliest first
	w      io.Writer
	buf    []byte
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
		n, err := b.number(maxName)
		if err != nil {
			return false, err
		}
		p := make([]byte, n)
		if _, err := io.ReadFull(b.recipe, p); err != nil {
			return false, fmt.Errorf("read the recipe: %w", eof(err))
		}
		if err := b.file(string(p), size); err != nil {
			return false, fmt.Errorf("file %q of the layer: %w", p, err)
		}
		return true, nil
	}
	return false, fmt.Errorf("read the recipe: unknown part %q", kind)
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
// the earlier ones were put aside. One without content need not be opened.
func (b *builder) open(p string, size int64) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	if list := b.aside[p]; len(list) > 0 {
		b.aside[p] = list[1:]
		if size == 0 {
			return -1, nil
		}
		return unix.Openat(b.tree.aside, strconv.Itoa(list[0]), flags|unix.O_CLOEXEC, 0)
	}
	if size == 0 {
		return -1, nil
	}
	return b.tree.open(p, flags)
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
