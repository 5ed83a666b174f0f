// SPDX-License-Identifier: Apache-2.0

package tarsplit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// maxPiece bounds one piece of an archive as the list has it, in bytes. The longest
// are extended headers, with a mebibyte of attributes as base64.
const maxPiece = 4 << 20

// writeSize is the size in bytes of writes to the pipe.
const writeSize = 256 << 10

// Serve is the main function of the stage StageName; it returns the exit code. The
// working directory is that of the files, stdin the compressed list of pieces.
func Serve(stdin io.Reader, stdout, stderr io.Writer) int {
	dir, err := os.Open(".")
	if err == nil {
		defer dir.Close()
		err = join(int(dir.Fd()), stdin, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// join writes the archive of the files in dir and the pieces to w.
func join(dir int, pieces io.Reader, w io.Writer) error {
	z, err := gzip.NewReader(pieces)
	if err != nil {
		return fmt.Errorf("headers of the layer: %w", err)
	}
	out := bufio.NewWriterSize(w, writeSize)
	if err := asm.WriteOutputTarStream(files(dir), &list{bufio.NewReaderSize(z, 64<<10)}, out); err != nil {
		return err
	}
	return out.Flush()
}

// A list is the pieces, one in each line.
type list struct{ r *bufio.Reader }

// Next implements storage.Unpacker.
func (l *list) Next() (*storage.Entry, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		if len(line)+len(part) > maxPiece {
			return nil, fmt.Errorf("headers of the layer: a piece of more than %d bytes", maxPiece)
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, fmt.Errorf("headers of the layer: %w", err)
		}
		break
	}
	var e storage.Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, fmt.Errorf("headers of the layer: %w", err)
	}
	return &e, nil
}

// files are those below an open directory.
type files int

// Get implements storage.FileGetter.
func (dir files) Get(name string) (io.ReadCloser, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(dir), name, &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue // a rename or mount somewhere came in between (openat2(2))
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		f := os.NewFile(uintptr(fd), name)
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			f.Close()
			return nil, errors.Join(err, fmt.Errorf("%.200q is no regular file", name))
		}
		return f, nil
	}
}
