// SPDX-License-Identifier: Apache-2.0

package launcher

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/slipway-net/slipway/launcher/join"
	"github.com/slipway-net/slipway/launcher/sandbox"
)

// Beginnings of values of --net. JoinContainer means the network of another container,
// whose name or id follows, and JoinCNI one of a CNI configuration that has the name. A
// value that begins with a slash is the path of a network namespace. Who parses the flags
// makes NetJoined of each.
const (
	JoinContainer = "container:"
	JoinCNI       = "cni:"
)

// A Joined is the network namespace of others that a container is to be in. To join
// it, the container has to be in the user namespace that owns it, too, and so has the
// ids that are mapped there. Its files stay the caller's.
type Joined struct {
	User, Net int // open files of the two namespaces
	// Resolv and Hosts are what resolv.conf and hosts hold; empty is as on the host.
	Resolv, Hosts string
	// Own says that the network was made for this container: instead of Resolv and Hosts,
	// the files hold what Config says of a private one. Without name servers there,
	// resolv.conf is the host's.
	Own bool
}

// isOwn reports whether the container has a network namespace of its own.
func (m NetMode) isOwn() bool { return m != NetHost && m != NetJoined }

// startJoined starts the init stage, the binary exe, in the namespaces of Config.Joined,
// and in new ones of the other kinds. mode is one of sandbox's.
func (r *running) startJoined(exe int, files []int, mode string) error {
	j := r.ct.cfg.Joined
	var err error
	r.pid, err = join.Start(join.Config{
		Join: []join.Namespaces{{FD: j.User, Flags: unix.CLONE_NEWUSER}, {FD: j.Net, Flags: unix.CLONE_NEWNET}},
		New:  unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		Exe:  exe, Args: []string{sandbox.InitArg, mode, strconv.Itoa(len(r.ct.cfg.Files))}, Env: stageEnv(), Files: files,
	})
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: it belongs to another user", err)
	}
	if err != nil {
		return err
	}
	// Our child's id is not given to another before we have waited for it.
	if r.pidfd, err = unix.PidfdOpen(r.pid, 0); err == nil && r.group != nil {
		err = joinGroupAt(r.group.dir, r.pid)
	}
	if err != nil {
		_ = unix.Kill(r.pid, unix.SIGKILL)
		_, _ = join.Wait(r.pid)
		return fmt.Errorf("start in the joined network: %w", err)
	}
	return nil
}

// ResolvAndHosts returns what resolv.conf and hosts hold in a container, from what
// Container.Order has returned of it.
func ResolvAndHosts(order []byte) (resolv, hosts string, err error) {
	o, err := sandbox.Decode(order)
	if err != nil {
		return "", "", err
	}
	for _, f := range o.Files {
		switch f.Path {
		case "/etc/resolv.conf":
			resolv = f.Content
		case "/etc/hosts":
			hosts = f.Content
		}
	}
	return resolv, hosts, nil
}
