// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// A pastaPID is the file that gets the process id when the network is up. It is opened
// while it is in reach, and keeps what it has until then: that may be the id of another
// pasta, in whose place this one cannot come. A nil pastaPID is of no file.
type pastaPID struct {
	file    *os.File
	made    bool // by us
	written bool
}

// openPastaPID opens the file of that name, and makes it where there is none. An empty
// name is none. The caller closes it.
func openPastaPID(name string) (*pastaPID, error) {
	if name == "" {
		return nil, nil
	}
	// With O_CREAT the kernel keeps us from files that others have put into /tmp for us to
	// write to (fs.protected_regular of proc_sys_fs(5)).
	const flags = os.O_WRONLY | os.O_CREATE | syscall.O_NONBLOCK | syscall.O_NOFOLLOW
	f, err := os.OpenFile(name, flags|os.O_EXCL, 0o600)
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(name, flags, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("make the pid file: %w", err)
	}
	return &pastaPID{file: f, made: made}, nil
}

// empty takes away what the file has. What is no regular file keeps it.
func (p *pastaPID) empty() error {
	if p == nil {
		return nil
	}
	if err := p.file.Truncate(0); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("empty the pid file: %w", err)
	}
	return nil
}

// write writes our process id.
func (p *pastaPID) write() error {
	if p == nil {
		return nil
	}
	if _, err := p.file.WriteString(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		return fmt.Errorf("write the process id: %w", err)
	}
	p.written = true
	return p.file.Close()
}

// close gives up a file that has not been written, and removes it if it was made for
// that. It may be called again.
func (p *pastaPID) close() {
	if p == nil || p.written {
		return
	}
	if p.file.Close() == nil && p.made {
		_ = os.Remove(p.file.Name())
	}
}
