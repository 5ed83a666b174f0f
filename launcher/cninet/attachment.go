// SPDX-License-Identifier: Apache-2.0

package cninet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/slipway-net/slipway/launcher/userns"
)

// Capabilities of plugins that are used (CONVENTIONS.md of the CNI project).
const (
	capPorts   = "portMappings"
	capAliases = "aliases"
)

// idBytes is the number of random bytes in an id.
const idBytes = 16

// Config says which network to attach to. All fields but Ports and Aliases are needed.
type Config struct {
	Name       string         // of the network
	ConfDirs   []string       // where its configuration is looked for, in order
	PluginDirs []string       // where plugins are looked for, in order
	State      string         // the directory of all attachments, of the caller's alone
	Mapping    userns.Mapping // of the container's ids; 0 is the caller
	Ports      []Port         // to publish
	Aliases    []string       // names of the container on the network
}

// An Attachment is a network namespace that is attached to a network, and the user
// namespace that owns it. Close detaches it, and must be called.
type Attachment struct {
	User, Net *os.File // the namespaces, for a container to join; they stay the attachment's
	Result    Result

	req request
	dir *place // nil when it is detached
}

// Add makes both namespaces, and has plugins attach them. The error is an ErrNoNetwork
// for a name that no configuration has. After an error there is nothing left but, where
// plugins failed to take back what they did, what Sweep will try again.
func Add(c Config) (*Attachment, error) {
	a, err := c.prepare()
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", c.Name, err)
	}
	if err := a.add(); err != nil {
		return nil, fmt.Errorf("network %s: %w", c.Name, err)
	}
	return a, nil
}

// prepare looks at the configuration, and notes what is to be done.
func (c *Config) prepare() (*Attachment, error) {
	confs, err := absolute(c.ConfDirs)
	if err != nil {
		return nil, err
	}
	list, err := find(c.Name, confs)
	if err != nil {
		return nil, err
	}
	if len(c.Ports) > 0 && !takes(list, capPorts) {
		return nil, fmt.Errorf(`none of its plugins publishes ports: one needs "capabilities": {"%s": true} in its configuration`, capPorts)
	}
	if len(c.Aliases) > 0 && !takes(list, capAliases) {
		return nil, fmt.Errorf(`none of its plugins takes names: one needs "capabilities": {"%s": true} in its configuration`, capAliases)
	}
	a := &Attachment{req: request{ID: newID(), Ports: c.Ports, Aliases: c.Aliases, Env: environment(), Mapping: c.Mapping}}
	if a.req.Conf, err = whole(list); err != nil {
		return nil, err
	}
	if a.req.Plugins, err = absolute(c.PluginDirs); err != nil {
		return nil, err
	}
	if a.dir, err = newPlace(c.State, a.req.ID); err != nil {
		return nil, err
	}
	a.req.Cache = a.dir.path
	if err := a.dir.note(&a.req); err != nil {
		return nil, errors.Join(err, a.dir.remove())
	}
	return a, nil
}

func newID() string {
	b := make([]byte, idBytes)
	rand.Read(b) // never fails: crypto/rand.Read
	return hex.EncodeToString(b)
}

// add makes the namespaces, and does ADD.
func (a *Attachment) add() (err error) {
	defer func() {
		if err != nil {
			err = a.fail(err)
		}
	}()
	req := a.req
	req.Command = add
	if isRoot() {
		req.Command = namespace
	}
	r, err := callNew(&req, func(pid int, r reply) (err error) {
		if a.User, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", pid)); err == nil {
			a.Net, err = os.Open(fmt.Sprintf("/proc/%d/fd/%d", pid, r.NetNS))
		}
		return err
	})
	if err != nil {
		return err
	}
	a.Result = r.Result
	if !isRoot() {
		return nil
	}
	req.NetNS = int(a.Net.Fd())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if a.Result, err = req.add(ctx); err != nil {
		return told(oneLine(err))
	}
	return nil
}

// fail leaves nothing of an attachment that was not made, and returns err.
func (a *Attachment) fail(err error) error {
	a.closeNamespaces()
	_, undone := errors.AsType[told](err)
	if _, never := errors.AsType[unbegun](err); never || undone {
		err = errors.Join(err, a.dir.remove())
	} else {
		_ = a.dir.detach(a.req) // or Sweep will
	}
	a.dir.close()
	return err
}

// isRoot reports whether plugins have their rights on both sides without a stage: the
// machine's root, or that of a user namespace that containers are made in.
func isRoot() bool { return os.Geteuid() == 0 }

// Close detaches the namespaces and closes them. It may be called again, and on nil.
// Where it fails, Sweep will try again.
func (a *Attachment) Close() error {
	if a == nil || a.dir == nil {
		return nil
	}
	req := a.req
	req.Command = del
	var err error
	if isRoot() {
		req.NetNS = int(a.Net.Fd())
		err = delHere(&req)
	} else {
		_, err = callIn(a.User, a.Net, &req)
	}
	a.closeNamespaces()
	if err == nil {
		err = a.dir.remove()
	}
	a.dir.close()
	a.dir = nil
	if err != nil {
		return fmt.Errorf("detach from the network: %w", err)
	}
	return nil
}

// delHere does DEL without a stage.
func delHere(req *request) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := req.del(ctx); err != nil {
		return told(oneLine(err))
	}
	return nil
}

func (a *Attachment) closeNamespaces() {
	for _, f := range []*os.File{a.User, a.Net} {
		if f != nil {
			f.Close()
		}
	}
}
