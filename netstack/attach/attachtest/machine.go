// SPDX-License-Identifier: Apache-2.0

package attachtest

import (
	"fmt"
	"os"
	"os/user"
	"strings"
	"testing"
)

// A Machine is a host with a neighbour, as in the World, and with users: root, and
// the plain user, who has subordinate ids (subuid(5)) for containers of its own. It
// has a root of its own because newuidmap(1) must be more than its user, and
// processes of its own, which end with it.
type Machine struct {
	Host *Place // as root of the machine, whose processes are not numbered as ours
	Peer *Place // the neighbour, at PeerAddr of Families; the host's resolver, too
}

// machineScript makes the machine of the user namespace it is in, and becomes the
// first process, which takes in the orphans. What the plain user may start with
// other rights is a copy that belongs to this root. Control groups are none of the
// machine's, and crun refuses a mixture of their versions. The user's subordinate ids
// are of the 65536 that useradd(8) gives, and above those of users.
const machineScript = `set -e
mount --make-rshared /
mount -t tmpfs -o mode=755 machine /mnt
for tool in newuidmap newgidmap; do
	path=$(command -v $tool)
	cp "$path" /mnt/$tool
	chmod 4755 /mnt/$tool
	mount --bind /mnt/$tool "$path"
done
echo "$1:10000:50000" >/mnt/sub
echo "nameserver $2" >/mnt/resolv.conf
chmod 644 /mnt/sub /mnt/resolv.conf
mount --bind /mnt/sub /etc/subuid
mount --bind /mnt/sub /etc/subgid
mount --bind /mnt/resolv.conf /etc/resolv.conf
mount -t tmpfs -o mode=755 machine /sys/fs/cgroup
shift 2
"$@"
exit`

// NewMachine makes one, for which the plain user needs subordinate ids on this
// machine. Without them it ends the test. The test's end ends the machine.
func NewMachine(t testing.TB) *Machine {
	t.Helper()
	NeedTools(t, "newuidmap", "newgidmap", "unshare", "setpriv")
	w := Open(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	enter := []string{
		"unshare", "--user", "--map-users=auto", "--map-groups=auto", "--map-user=" + me.Uid, "--map-group=" + me.Gid,
		"--setuid=0", "--setgid=0", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
	}
	if out, code := w.user.Run(t, append(enter, "mount", "-t", "tmpfs", "machine", "/mnt")...); code != 0 {
		Unavailable(t, "no namespaces for several users: "+strings.TrimSpace(out))
	}
	host := newPlace(t, func(in *os.File, argv []string) (func(), error) {
		script := []string{"sh", "-c", machineScript, "sh", me.Username, Families()[0].PeerAddr.String()}
		done, err := w.user.start(append(append(enter, script...), argv...), in, os.Stderr, os.Stderr)
		if err != nil {
			return nil, err
		}
		return func() { receive(done); done.Close() }, nil
	})
	m := &Machine{Host: host, Peer: host.Split(t)}
	host.Exec(t, "env", fmt.Sprint("PEER=", m.Peer.PID()), "sh", "-c", hostScript())
	return m
}

// AsUser returns a command that is run in a place of the machine as the plain user,
// with that environment and no other.
func (m *Machine) AsUser(env []string, argv ...string) []string {
	out := []string{
		"setpriv", fmt.Sprint("--reuid=", os.Getuid()), fmt.Sprint("--regid=", os.Getgid()),
		"--clear-groups", "--inh-caps=-all", "env", "-i",
	}
	return append(append(out, env...), argv...)
}
