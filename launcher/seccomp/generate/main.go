// SPDX-License-Identifier: Apache-2.0

// Command generate writes the tables of system calls and the default profile's
// programs that package seccomp is linked with. Run it by go generate in that package's
// directory after an update of the profile or of the tables.
package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/elastic/go-seccomp-bpf/arch"

	"github.com/slipway-net/slipway/launcher/seccomp"
)

// fileMode and dirMode are those of what is written.
const (
	fileMode = 0o644
	dirMode  = 0o755
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	for _, goarch := range []string{"amd64", "arm64"} {
		for _, name := range seccomp.Tables(goarch) {
			text, err := table(name)
			if err == nil {
				err = write("tables", name+".txt", []byte(text))
			}
			if err != nil {
				return err
			}
		}
		for _, class := range seccomp.Classes() {
			b, err := seccomp.CompileDefault(goarch, class, table)
			if err == nil {
				err = write("programs", seccomp.ProgramName(goarch, class), b)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// table is the text of a table.
func table(name string) (string, error) {
	info, err := arch.GetInfo(name)
	if err != nil {
		return "", fmt.Errorf("system calls of %s: %w", name, err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%x\n", uint32(info.ID))
	type call struct {
		number int
		name   string
	}
	var calls []call
	for n, c := range info.SyscallNumbers {
		calls = append(calls, call{n, c})
	}
	slices.SortFunc(calls, func(x, y call) int { return cmp.Compare(x.number, y.number) })
	for _, c := range calls {
		fmt.Fprintf(&b, "%d %s\n", c.number, c.name)
	}
	return b.String(), nil
}

func write(dir, name string, b []byte) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), b, fileMode)
}
