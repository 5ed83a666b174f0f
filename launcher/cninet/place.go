// SPDX-License-Identifier: Apache-2.0

package cninet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// noteFile is the name of the file with what DEL needs.
const noteFile = "attachment.json"

// dirMode lets nobody else look.
const dirMode = 0o700

// A place is an attachment's directory, which is locked.
type place struct {
	path string
	lock *os.File
}

// lockDir opens a directory and locks it. With wait it waits for who has it.
func lockDir(path string, wait bool) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// newPlace makes the directory of an attachment.
func newPlace(state, id string) (*place, error) {
	if err := os.MkdirAll(state, dirMode); err != nil {
		return nil, fmt.Errorf("make the directory of attachments: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(state, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", state, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("%s is not a directory that only we may write to: remove it", state)
	}
	all, err := lockDir(state, true)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of attachments: %w", err)
	}
	defer all.Close()
	p := &place{path: filepath.Join(state, id)}
	if err := os.Mkdir(p.path, dirMode); err != nil {
		return nil, fmt.Errorf("make the attachment's directory: %w", err)
	}
	if p.lock, err = lockDir(p.path, false); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the attachment's directory: %w", err), os.Remove(p.path))
	}
	return p, nil
}

// note writes down what DEL needs.
func (p *place) note(req *request) error {
	b, err := json.Marshal(req)
	if err == nil {
		err = os.WriteFile(filepath.Join(p.path, noteFile), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the attachment: %w", err)
	}
	return nil
}

// detach does DEL for a namespace that is gone, and removes the directory.
func (p *place) detach(req request) error {
	req.Command = del
	var err error
	if isRoot() {
		err = delHere(&req)
	} else {
		_, err = callNew(&req, nil)
	}
	if err != nil {
		return err
	}
	return p.remove()
}

// remove removes the directory.
func (p *place) remove() error {
	if err := os.RemoveAll(p.path); err != nil {
		return fmt.Errorf("remove the attachment's directory: %w", err)
	}
	return nil
}

// close gives the lock up. It may be called again.
func (p *place) close() { p.lock.Close() }

// Sweep detaches what is left of owners that were killed, in the directory of all
// attachments, which need not be there.
func Sweep(state string) error {
	places, err := abandoned(state)
	if err != nil {
		return fmt.Errorf("look for attachments that were left: %w", err)
	}
	var errs []error
	for _, p := range places {
		if err := p.sweep(); err != nil {
			errs = append(errs, fmt.Errorf("detach what was left in %s: %w", p.path, err))
		}
		p.close()
	}
	return errors.Join(errs...)
}

// sweep detaches one, of which no more than the directory may be there.
func (p *place) sweep() error {
	b, err := os.ReadFile(filepath.Join(p.path, noteFile))
	var req request
	if err == nil {
		err = json.Unmarshal(b, &req)
	}
	if err != nil { // it was not begun: the file is there, and whole, before plugins are run
		return p.remove()
	}
	return p.detach(req)
}

// abandoned locks and returns the attachments that nobody has.
func abandoned(state string) ([]*place, error) {
	all, err := lockDir(state, true)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer all.Close()
	entries, err := os.ReadDir(state)
	if err != nil {
		return nil, err
	}
	var places []*place
	for _, e := range entries {
		path := filepath.Join(state, e.Name())
		if lock, err := lockDir(path, false); err == nil {
			places = append(places, &place{path: path, lock: lock})
		}
	}
	return places, nil
}
