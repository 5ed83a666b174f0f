// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// exitFile holds the Exit.
const exitFile = "exit"

// exitRoom is the size in bytes of that file, which it has from the start; the
// longest message is cut to fit.
const (
	exitRoom = 1024
	maxError = 512
)

// encodeExit returns the Exit as JSON filled up with spaces to exitRoom.
func encodeExit(e Exit) ([]byte, error) {
	if len(e.Error) > maxError {
		e.Error = strings.ToValidUTF8(e.Error[:maxError], "")
	}
	b, err := json.Marshal(e)
	if err == nil && len(b) > exitRoom {
		// A character may take six in JSON.
		e.Error = ""
		b, err = json.Marshal(e)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the exit: %w", err)
	}
	return append(b, bytes.Repeat([]byte{' '}, exitRoom-len(b))...), nil
}

// noExit is what the file holds before the end.
func noExit() []byte { return bytes.Repeat([]byte{' '}, exitRoom) }

// readExit reads the exit in dir, nil if none was written, or not all of it.
func readExit(dir string) *Exit {
	f, err := os.Open(filepath.Join(dir, exitFile))
	if err != nil {
		return nil
	}
	defer f.Close()
	return decodeExit(f)
}

func decodeExit(f *os.File) *Exit {
	b := make([]byte, exitRoom)
	n, _ := f.ReadAt(b, 0)
	var e Exit
	if json.Unmarshal(b[:n], &e) != nil {
		return nil
	}
	return &e
}
