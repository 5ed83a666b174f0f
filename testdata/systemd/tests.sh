#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What is tried on the machine that init.sh boots. Each try prints its name, what it has
# to say, and its exit code. What is right is said in systemd_test.go.

export TERM=dumb

# try NAME COMMAND...
try() {
	echo "== $1"
	shift
	timeout 60 "$@" </dev/null 2>&1
	printf '\n== exit %s\n' $?
}

# until_true COMMAND... waits for it.
until_true() {
	n=0
	until "$@" >/dev/null 2>&1; do
		n=$((n + 1))
		[ $n -lt 100 ] || return 1
		sleep 0.1
	done
}

# The user whose manager runs, in the group of this service, which is root's.
cat >/run/bin/as-user <<'END'
#!/bin/sh
exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all \
	env -i PATH="$PATH" HOME=/run/user/1000 XDG_RUNTIME_DIR=/run/user/1000 XDG_DATA_HOME=/run/user/1000/data "$@"
END
cat >/run/bin/container <<'END'
#!/bin/sh
exec /run/bin/slipway run --rm --net none --userns single --read-only --rootfs / "$@"
END
cat >/run/bin/forks <<'END'
#!/bin/sh
# A shell that cannot fork ends.
i=0
while [ $i -lt 40 ]; do sleep 100 & i=$((i + 1)); done
echo all of them
END
# In a user namespace of the user's: a plugin's ADD, its helper's group, and DEL.
cat >/run/bin/rootless <<'END'
#!/bin/sh
unshare -n sleep 1000 & pid=$!
until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
export CNI_CONTAINERID=user CNI_NETNS=/proc/$pid/ns/net CNI_IFNAME=eth0 CNI_PATH=/run/bin
conf='{"cniVersion":"1.0.0","name":"net","type":"slipway-cni","outside":"'$1'"}'
out=$(echo "$conf" | CNI_COMMAND=ADD /run/bin/slipway-cni)
echo "$out" | grep -o '10.0.2.100/24' || echo "$out"
cat "/proc/$(cat "$XDG_RUNTIME_DIR"/slipway-cni/*/*/pid)/cgroup"
echo "$conf" | CNI_COMMAND=DEL /run/bin/slipway-cni
kill $pid
END
chmod 755 /run/bin/*

try "own group" cat /proc/self/cgroup
try "doctor" sh -c "/run/bin/as-user /run/bin/slipway doctor | grep 'cgroup delegation'"
try "limits" /run/bin/as-user /run/bin/container --pids-limit 20 --memory 64m --cpus 0.5 -- \
	sh -c 'cd /sys/fs/cgroup && cat pids.max memory.max cpu.max'
forks=$(cat /run/bin/forks)
try "forks" /run/bin/as-user /run/bin/container --pids-limit 20 -- sh -c "$forks"
# tail keeps what it reads until the line ends.
try "memory" /run/bin/as-user /run/bin/container --memory 32m -- tail /dev/zero
try "nothing is left" find /sys/fs/cgroup -name 'slipway-run-*' -o -name 'container-*'

/run/bin/as-user /run/bin/container --name long --pids-limit 20 -- sleep 1000 &
until_true /run/bin/as-user /run/bin/slipway exec long true
# shellcheck disable=SC2016
try "where it is" sh -c 'cat /proc/$(pgrep -x sleep)/cgroup'
try "exec" /run/bin/as-user /run/bin/slipway exec long sh -c 'cat /sys/fs/cgroup/pids.max; cut -d: -f3 /proc/self/cgroup'
try "exec forks" /run/bin/as-user /run/bin/slipway exec long sh -c "$forks"
try "stats" /run/bin/as-user /run/bin/slipway stats --no-stream --json long
/run/bin/as-user /run/bin/slipway kill long
wait
try "nothing is left of it" find /sys/fs/cgroup -name 'slipway-run-*' -o -name 'container-*'

# A supervisor that is killed takes the container along, and systemd the groups.
/run/bin/as-user /run/bin/container --name killed --pids-limit 20 -- sleep 1000 &
until_true /run/bin/as-user /run/bin/slipway exec killed true
pkill -KILL -f 'slipway run.*--name killed'
wait
# shellcheck disable=SC2016
until_true sh -c 'test -z "$(find /sys/fs/cgroup -name "slipway-*.scope")"'
try "nothing is left of the killed" find /sys/fs/cgroup -name 'slipway-*.scope' -o -name 'container-*'

# A group that is delegated and holds nobody else is taken as it is.
try "delegated" systemd-run --quiet --wait --pipe --unit=alone --uid=1000 -p Delegate=yes \
	-E XDG_RUNTIME_DIR=/run/user/1000 -E HOME=/run/user/1000 /run/bin/slipway run --rm --net none --userns single --read-only --rootfs / \
	--pids-limit 20 -- cat /sys/fs/cgroup/pids.max
mkdir -m 700 /run/other && chown 2000:2000 /run/other
try "no manager" setpriv --reuid 2000 --regid 2000 --clear-groups --inh-caps=-all \
	env XDG_RUNTIME_DIR=/run/other HOME=/run/other /run/bin/container --pids-limit 20 -- true

try "rootless" /run/bin/as-user unshare -Ur /run/bin/rootless caller
/run/bin/as-user /run/bin/slipway-cni broker 2>/dev/null &
until_true test -S /run/user/1000/slipway-cni/broker
try "by a broker" /run/bin/as-user unshare -Urn /run/bin/rootless broker

# A runtime's service that runs the plugin, and is stopped.
for cgroup in auto off; do
	ip netns add $cgroup
	cat >/run/bin/runtime-$cgroup <<END
#!/bin/sh
export CNI_COMMAND=ADD CNI_CONTAINERID=$cgroup CNI_NETNS=/run/netns/$cgroup CNI_IFNAME=eth0 CNI_PATH=/run/bin
echo '{"cniVersion":"1.0.0","name":"net","type":"slipway-cni","cgroup":"$cgroup"}' | /run/bin/slipway-cni >/run/result-$cgroup 2>&1
mv /run/result-$cgroup /run/added-$cgroup
exec sleep 1000
END
	chmod 755 /run/bin/runtime-$cgroup
	systemd-run --quiet --unit=runtime-$cgroup /run/bin/runtime-$cgroup
	until_true test -e /run/added-$cgroup
	try "added $cgroup" cat /run/added-$cgroup
	pid=$(cat /run/slipway-cni/*/*/pid)
	try "helper $cgroup" cat "/proc/$pid/cgroup"
	systemctl stop runtime-$cgroup
	try "after the stop $cgroup" ip netns exec $cgroup ip -br link show eth0
	echo '{"cniVersion":"1.0.0","name":"net","type":"slipway-cni"}' >/run/net.conf
	CNI_COMMAND=DEL CNI_CONTAINERID=$cgroup CNI_IFNAME=eth0 CNI_PATH=/run/bin \
		try "del $cgroup" sh -c '/run/bin/slipway-cni </run/net.conf'
	until_true sh -c "! systemctl is-active slipway-cni-$pid.scope"
	try "units after $cgroup" systemctl list-units --plain --no-legend 'slipway-cni-*'
done
echo "== over"
poweroff -ff
