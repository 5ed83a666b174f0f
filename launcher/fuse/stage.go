// SPDX-License-Identifier: Apache-2.0

package fuse

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// connectionFD is the descriptor at which the stage finds the connection.
const connectionFD = 3

// Serve is the main function of the stage StageName. It becomes fuse-overlayfs, or
// returns an exit code.
func Serve(args []string, stderr io.Writer) int {
	err := serve(args)
	fmt.Fprintln(stderr, err)
	return 1
}

func serve(args []string) error {
	if len(args) <= words {
		return fmt.Errorf("the stage has %d words, want more than %d", len(args), words)
	}
	// What it stacks are hostile files, and it is another's program. The thread that
	// promises is the one that executes.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	var lowers []string
	for _, dir := range args[words:] {
		l, err := open(dir)
		if err != nil {
			return err
		}
		lowers = append(lowers, l)
	}
	upper, err := open(args[wordUpper])
	if err != nil {
		return err
	}
	work, err := open(args[wordWork])
	if err != nil {
		return err
	}
	options := "lowerdir=" + strings.Join(lowers, ":") + ",upperdir=" + upper + ",workdir=" + work
	if v := args[wordVolatile]; v != "" {
		options += "," + v
	}
	// libfuse takes a mount that is there as /dev/fd/N (fuse_mnt_parse_fuse_fd).
	command := []string{"fuse-overlayfs", "-f", "-o", options, "/dev/fd/" + strconv.Itoa(connectionFD)}
	program := args[wordProgram]
	return fmt.Errorf("execute %s: %w", program, unix.Exec(program, command, nil))
}

// open opens a directory for the program and returns a name for it that needs no
// quotes among options, whatever characters the directory's own has.
func open(dir string) (string, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", &os.PathError{Op: "open layer", Path: dir, Err: err}
	}
	return "/proc/self/fd/" + strconv.Itoa(fd), nil
}
