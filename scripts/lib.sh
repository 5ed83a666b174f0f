# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Sourced by the other scripts: telling the user what happens, and the plain
# user as whom root runs whatever must work without root.

# The account that root makes for the tests and the demo.
test_user=slipway-test

# The subordinate ids of an account that has none: 65536 of them, the number
# that useradd(8) gives.
subids=300000-365535

say() { printf '==> %s\n' "$*"; }

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# have NAME reports whether a command, or a file given by its whole path, exists.
# Debian keeps some commands where a plain user's PATH does not look.
have() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

# need_tools NAME=PACKAGE... sees to it that we have every NAME: root installs
# the packages of those that are missing, others are told of them.
need_tools() {
	local tool missing=()
	for tool in "$@"; do
		have "${tool%%=*}" || missing+=("${tool#*=}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! is_root; then
		die "missing packages; as root: apt-get install -y ${missing[*]}"
	fi
	say "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq || say "apt-get update failed, going on with the lists there are"
	apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_user makes the plain user and its subordinate ids (root only).
need_user() {
	if ! id "$test_user" >/dev/null 2>&1; then
		say "making the user $test_user"
		useradd --create-home --shell /bin/bash "$test_user"
	fi
	grep -q "^$test_user:" /etc/subuid 2>/dev/null || usermod --add-subuids "$subids" "$test_user"
	grep -q "^$test_user:" /etc/subgid 2>/dev/null || usermod --add-subgids "$subids" "$test_user"
}

# need_tun makes /dev/net/tun what it is on a desktop: there, and open to all
# (root only). Access to it gives no right; making an interface needs
# CAP_NET_ADMIN in the network namespace all the same.
need_tun() {
	if [ ! -e /dev/net/tun ]; then
		say "making /dev/net/tun"
		modprobe tun 2>/dev/null || true
		mkdir -p /dev/net
		[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
	fi
	if [ "$(stat -c %a /dev/net/tun)" != 666 ]; then
		say "opening /dev/net/tun to all users (chmod 0666)"
		chmod 0666 /dev/net/tun
	fi
}

user_home() { getent passwd "$test_user" | cut -d: -f6; }

# as_user COMMAND... runs a command as the plain user, in its home, with a clean
# environment (root only). NAME=VALUE words before the command are added to it.
as_user() {
	local home
	home=$(user_home)
	setpriv --reuid "$test_user" --regid "$test_user" --init-groups --inh-caps=-all \
		env -i -C "$home" HOME="$home" USER="$test_user" LANG=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
