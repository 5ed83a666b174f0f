#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The first program of a User-mode Linux whose root is the host's, read-only: it boots
# systemd with a system bus, the manager of a user without a name, and the tests, whose
# directory is $DIR. All that is written goes to file systems in memory.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ $$ = 1 ] || exit 1
# In a user namespace the host's root is nobody, which mount(8), being set-user-ID, becomes.
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t tmpfs -o mode=755 run /run
busybox mount -t tmpfs -o mode=1777 tmp /var/tmp
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
busybox insmod "/usr/lib/uml/modules/$(uname -r)/kernel/drivers/net/tun.ko"
chmod 666 /dev/net/tun
ip link set lo up
mkdir /run/bin
cp "$DIR/slipway" "$DIR/slipway-cni" "$DIR/tests.sh" /run/bin

unit() {
	mkdir -p "/run/systemd/system/$(dirname "$1")"
	{ printf '[Unit]\nDefaultDependencies=no\n' && cat; } >"/run/systemd/system/$1"
}
unit tests.target <<END
Wants=tests.service
END
unit tests.service <<END
Wants=dbus.service manager.service
After=dbus.service manager.service
[Service]
Environment=PATH=$PATH
ExecStart=/bin/sh /run/bin/tests.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
END
unit manager.service <<END
After=dbus.service
[Service]
Type=notify
User=1000
Delegate=cpu memory pids
RuntimeDirectory=user/1000
RuntimeDirectoryMode=700
Environment=HOME=/run/user/1000 XDG_RUNTIME_DIR=/run/user/1000 SYSTEMD_UNIT_PATH=/run/user-units
ExecStart=/lib/systemd/systemd --user --unit=basic.target
END
unit dbus.service.d/early.conf </dev/null
unit dbus.socket.d/early.conf </dev/null
mkdir /run/user-units
for u in basic shutdown; do
	printf '[Unit]\nDefaultDependencies=no\n' >/run/user-units/$u.target
done
exec /lib/systemd/systemd --unit=tests.target --log-target=null --show-status=false
