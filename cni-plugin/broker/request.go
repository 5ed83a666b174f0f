// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/slipway-net/slipway/tap/seqpacket"
	"golang.org/x/sys/unix"
)

// maxMessage bounds a request (bytes): sixteen bits of ports, written out, are a tenth
// of it.
const maxMessage = 1 << 20

// ErrBroker is matched, by errors.Is, by the errors which say that the broker cannot be
// asked or has refused.
var ErrBroker = errors.New("the broker does not start the helper")

// A Request asks for a helper. The files go with it, and stay the caller's.
type Request struct {
	Args    []string `json:"args"`   // of `slipway attach`, without the namespace
	NetNS   string   `json:"netns"`  // its name in Dir
	PidFile string   `json:"pid"`    // both are in the directory that Lock is
	API     string   `json:"api"`    // the same
	Helper  string   `json:"helper"` // the program, where the configuration has it
	// NoScope leaves the helper in the broker's control group.
	NoScope bool `json:"noScope,omitempty"`

	Dir, Ready, Log, Lock *os.File `json:"-"`
}

// files are the Request's, in the order that they are sent in.
func (r *Request) files() [4]**os.File {
	return [4]**os.File{&r.Dir, &r.Ready, &r.Log, &r.Lock}
}

// A reply says what came of it.
type reply struct {
	Error string `json:"error,omitempty"`
}

// Ask sends the request to the broker that listens at the socket. When it returns nil
// the helper has been started.
func Ask(ctx context.Context, socket string, r Request) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", socket)
	if err != nil {
		return fmt.Errorf("%w: %w: is it running? start it by: slipway-cni broker", ErrBroker, err)
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return fmt.Errorf("%w: %w", ErrBroker, err)
		}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBroker, err)
	}
	var fds []int
	for _, f := range r.files() {
		fds = append(fds, int((*f).Fd()))
	}
	conn := c.(*net.UnixConn)
	if _, _, err := conn.WriteMsgUnix(body, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("%w: %w", ErrBroker, err)
	}
	buf := make([]byte, maxMessage)
	n, _, _, err := seqpacket.Receive(conn, buf, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBroker, err)
	}
	var answer reply
	if err := json.Unmarshal(buf[:n], &answer); err != nil {
		return fmt.Errorf("%w: read its reply: %w", ErrBroker, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%w: %s", ErrBroker, answer.Error)
	}
	return nil
}

// receive reads a request. The caller closes its files, also after an error.
func receive(c *net.UnixConn) (*Request, error) {
	body, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*len(new(Request).files())))
	n, oobn, flags, err := seqpacket.Receive(c, body, oob)
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	r := new(Request)
	got, err := rights(oob[:oobn])
	for i, f := range r.files() {
		if i < len(got) {
			*f = got[i]
		}
	}
	switch {
	case err != nil:
		return r, err
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return r, errors.New("the request is too long")
	case len(got) != len(r.files()):
		return r, fmt.Errorf("%d descriptors came with the request, want %d", len(got), len(r.files()))
	}
	if err := json.Unmarshal(body[:n], r); err != nil {
		return r, fmt.Errorf("read the request: %w", err)
	}
	return r, r.check()
}

// rights returns the files that came with a message, closed on exec.
func rights(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read the descriptors: %w", err)
	}
	var files []*os.File
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // something else
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// check finds out whether the paths mean the same here and where the plugin is.
func (r *Request) check() error {
	if r.NetNS == "" || r.NetNS != filepath.Base(r.NetNS) || r.NetNS == ".." || r.NetNS == "." {
		return fmt.Errorf("the namespace's name is %q: want one without a directory", r.NetNS)
	}
	ours, err := r.Lock.Stat()
	if err != nil {
		return fmt.Errorf("look at the attachment's state: %w", err)
	}
	for _, path := range []string{r.PidFile, r.API} {
		there, err := os.Stat(filepath.Dir(path))
		if err != nil || !filepath.IsAbs(path) || !os.SameFile(ours, there) {
			return fmt.Errorf("%s is not in the state directory as it is seen from here: set stateDir to one that is the same inside and outside", path)
		}
	}
	return nil
}

// close closes the files.
func (r *Request) close() {
	for _, f := range r.files() {
		if *f != nil {
			(*f).Close()
		}
	}
}
