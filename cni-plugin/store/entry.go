// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the files of an attachment.
const (
	infoName = "attachment.json"
	pidName  = "pid"
	apiName  = "api"
	logName  = "log"
)

// hashLen is how many bytes of a hash make a name. 2⁶⁴ are enough to tell attachments
// of one user apart, none of whom attacks itself.
const hashLen = 8

// maxInfo bounds the size of a record that is read (bytes).
const maxInfo = 64 << 10

// ErrBusy is matched, by errors.Is, by the error which says that somebody else works at
// the attachment for longer than the context allows.
var ErrBusy = errors.New("another command for this attachment is under way")

// Info is what is known of an attachment. The zero Info is of none.
type Info struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
	NetNS       string `json:"netns"`           // the path
	NSDev       uint64 `json:"nsDev,omitempty"` // the namespace, as long as the helper lives
	NSIno       uint64 `json:"nsIno,omitempty"`
	// Publishes says that of all attachments of the container this one publishes ports,
	// and Networks are those that it has.
	Publishes bool           `json:"publishes,omitempty"`
	Networks  []netip.Prefix `json:"networks,omitempty"`
	Created   time.Time      `json:"created"`
}

// An Entry is one attachment, locked. Close gives up the lock.
type Entry struct {
	dir  *os.File
	path string
}

// Open locks the attachment's entry, which it makes, in the state directory. It waits
// for others until ctx is done; the error matches ErrBusy then.
func Open(ctx context.Context, state, network, containerID, ifname string) (*Entry, error) {
	if err := makeDir(state); err != nil {
		return nil, err
	}
	of := filepath.Join(state, hash(network))
	path := filepath.Join(of, name(containerID, ifname))
	for {
		// Who removes the last entry of the network removes that, too.
		err := errors.Join(makeDir(of), makeDir(path))
		var e *Entry
		if err == nil {
			e, err = openAt(path, func(f *os.File) error { return wait(ctx, f) })
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || e != nil {
			return e, err
		}
	}
}

// Find is Open for an attachment that may not be there: then it returns nil.
func Find(ctx context.Context, state, network, containerID, ifname string) (*Entry, error) {
	path := filepath.Join(state, hash(network), name(containerID, ifname))
	for {
		e, err := openAt(path, func(f *os.File) error { return wait(ctx, f) })
		if errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(filepath.Dir(path)) // if an ADD was killed when it had made only that
			return nil, nil
		}
		if err != nil || e != nil {
			return e, err
		}
	}
}

// openAt opens and locks the entry at path. It returns nil where that was removed, and
// perhaps made anew, meanwhile.
func openAt(path string, lock func(*os.File) error) (*Entry, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the attachment's state: %w", err)
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, err
	}
	ours, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("look at the attachment's state: %w", err)
	}
	if there, err := os.Lstat(path); err != nil || !os.SameFile(ours, there) {
		f.Close()
		return nil, nil
	}
	return &Entry{dir: f, path: path}, nil
}

// wait locks the file when nobody else has it locked. The goroutine ends with that, or
// with the process, which has nothing else to do when the lock was not to be had.
func wait(ctx context.Context, f *os.File) error {
	fd := int(f.Fd())
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return nil
	}
	locked := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(fd, unix.LOCK_EX)
			if err != unix.EINTR {
				locked <- err
				return
			}
		}
	}()
	select {
	case err := <-locked:
		return os.NewSyscallError("flock", err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
	}
}

// Close gives up the lock, unless a helper has inherited it and not given it up yet.
func (e *Entry) Close() error { return e.dir.Close() }

// Lock returns the descriptor that the lock is held by, for a helper to inherit. It is
// the Entry's to close.
func (e *Entry) Lock() *os.File { return e.dir }

// PidFile returns the path of the helper's pidfile.
func (e *Entry) PidFile() string { return filepath.Join(e.path, pidName) }

// API returns the path of the helper's socket.
func (e *Entry) API() string { return filepath.Join(e.path, apiName) }

// Log returns the path of the helper's log.
func (e *Entry) Log() string { return filepath.Join(e.path, logName) }

// Info returns the record, or the zero Info where there is none, or none to be read:
// whoever wrote it was killed, and what matters is told by the locks.
func (e *Entry) Info() Info {
	var i Info
	b, err := os.ReadFile(filepath.Join(e.path, infoName))
	if err != nil || len(b) > maxInfo || json.Unmarshal(b, &i) != nil {
		return Info{}
	}
	return i
}

// write writes the record, whole or not at all.
func (e *Entry) write(i Info) error {
	b, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("write the attachment's state: %w", err)
	}
	name := filepath.Join(e.path, infoName)
	if err := os.WriteFile(name+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the attachment's state: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("write the attachment's state: %w", err)
	}
	return nil
}

// Remove removes the entry, whose helper must have ended, and, if that was its last
// one, the network. It must be closed after that.
func (e *Entry) Remove() error {
	if err := os.RemoveAll(e.path); err != nil {
		return fmt.Errorf("remove the attachment's state: %w", err)
	}
	_ = os.Remove(filepath.Dir(e.path)) // it stays while others are in it
	return nil
}

// Each calls f for each attachment of the network that nobody else works at, locked.
// It closes the entry after that. The errors are joined.
func Each(state, network string, f func(*Entry) error) error {
	of := filepath.Join(state, hash(network))
	list, err := os.ReadDir(of)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list attachments: %w", err)
	}
	var errs []error
	for _, d := range list {
		e, err := openAt(filepath.Join(of, d.Name()), func(file *os.File) error {
			return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		})
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) || err == nil && e == nil {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, f(e))
		e.Close()
	}
	return errors.Join(errs...)
}

// Sweep removes the attachments of the network that are over. What cannot be removed
// stays for GC.
func Sweep(state, network string) {
	_ = Each(state, network, func(e *Entry) error {
		if _, err := os.Lstat(e.PidFile()); errors.Is(err, fs.ErrNotExist) {
			return e.Remove()
		}
		return nil
	})
}

// name is that of an attachment's directory, whose first part is the container's.
func name(containerID, ifname string) string { return hash(containerID) + "-" + hash(ifname) }

func hash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:hashLen])
}
