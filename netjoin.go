// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-net/slipway/launcher"
	"github.com/slipway-net/slipway/launcher/state"
	"github.com/slipway-net/slipway/launcher/supervise"
	"golang.org/x/sys/unix"
)

// A joinedNetwork is the network of another container, or at a path, which a container
// is to be in.
type joinedNetwork struct {
	word     string // of --net
	joined   launcher.Joined
	uids     []state.Mapping // of the other container; nil for a path
	gids     []state.Mapping
	user, at *os.File // the namespaces
}

// joinNetwork finds the network that --net names, nil for none of others.
func (r *runner) joinNetwork() (*joinedNetwork, error) {
	word := string(r.cfg.Net)
	name, ofContainer := strings.CutPrefix(word, launcher.JoinContainer)
	if !ofContainer && !strings.HasPrefix(word, "/") {
		return nil, nil
	}
	if len(r.net.publish) > 0 || r.net.auto != nil {
		return nil, fmt.Errorf("%w: --publish with --net %s: publish ports where the network is made", errUsage, word)
	}
	j := &joinedNetwork{word: word}
	var err error
	if ofContainer {
		err = j.ofContainer(name)
	} else {
		err = j.atPath(word)
	}
	if err == nil {
		err = j.checkIDs(r)
	}
	if err != nil {
		j.close()
		return nil, fmt.Errorf("join network %s: %w", word, err)
	}
	j.joined.User, j.joined.Net = int(j.user.Fd()), int(j.at.Fd())
	r.cfg.Net, r.cfg.Joined = launcher.NetJoined, j.joined
	return j, nil
}

// ofContainer opens the network of a container that runs.
func (j *joinedNetwork) ofContainer(name string) error {
	store, c, err := findContainer(name)
	if err != nil {
		return err
	}
	if c.Status != state.Running {
		return errNotRunning(c)
	}
	if c.Net == string(launcher.NetHost) {
		return errors.New("the container has the host's network: give --net host")
	}
	dir := fmt.Sprintf("/proc/%d/ns/", c.Init.PID)
	if j.user, err = os.Open(dir + "user"); err != nil {
		return err
	}
	if j.at, err = os.Open(dir + "net"); err != nil {
		return err
	}
	// Only now is it sure that they are of the container's process.
	fd, err := c.Init.Open()
	if err != nil {
		return errors.New("the container has just ended")
	}
	unix.Close(fd)
	j.uids, j.gids = c.UIDs, c.GIDs
	order, err := os.ReadFile(filepath.Join(store.Dir(c.ID), supervise.OrderFile))
	if err != nil {
		return fmt.Errorf("read what the container has in /etc: %w", err)
	}
	j.joined.Resolv, j.joined.Hosts, err = launcher.ResolvAndHosts(order)
	return err
}

// atPath opens the network namespace at a path, and the user namespace that owns it
// (ioctl_ns(2)).
func (j *joinedNetwork) atPath(path string) error {
	// Opening a FIFO would wait.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	j.at = os.NewFile(uintptr(fd), path)
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return errors.New("it is not a network namespace: want a file such as /proc/PID/ns/net or a bind mount of one")
	}
	user, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	if errors.Is(err, unix.EPERM) {
		return errors.New("it belongs to a user namespace outside of ours")
	}
	if err != nil {
		return fmt.Errorf("find its user namespace: %w", err)
	}
	unix.CloseOnExec(user)
	j.user = os.NewFile(uintptr(user), "user namespace")
	var own, its unix.Stat_t
	if err := errors.Join(unix.Stat("/proc/self/ns/user", &own), unix.Fstat(user, &its)); err != nil {
		return err
	}
	if own.Ino == its.Ino {
		return errors.New("it belongs to our own user namespace: want that of a container, or --net host")
	}
	return nil
}

// checkIDs refuses a root whose files have other ids than the user namespace has.
func (j *joinedNetwork) checkIDs(r *runner) error {
	if r.cfg.IDs.IsZero() {
		return nil
	}
	if j.uids == nil {
		return fmt.Errorf("%w: the files of an image may have ids that its user namespace does not have: join the network of a container of ours, by --net container:NAME", errUsage)
	}
	if !slices.Equal(j.uids, stateMapping(r.cfg.IDs.UIDs)) || !slices.Equal(j.gids, stateMapping(r.cfg.IDs.GIDs)) {
		return fmt.Errorf("%w: the other container has other ids: start both with the same --userns, and both with an image", errUsage)
	}
	return nil
}

// close closes the namespaces.
func (j *joinedNetwork) close() {
	if j == nil {
		return
	}
	for _, f := range []*os.File{j.user, j.at} {
		if f != nil {
			f.Close()
		}
	}
}
