#!/bin/bash
# SPDX-License-Identifier: MIT
# The installed units as systemd's own tools see them, and the daemon behind systemd-socket-activate.
set -euo pipefail
. "$(dirname "$0")/systemd_box.sh"
box_enter SHELL "$@"

# Says nothing where all is well.
verify()
{
	local said
	said=$(systemd-analyze --man=no --recursive-errors=no "$@" 2>&1) || fail "verify: $said"
	[ -z "$said" ] || fail "verify: $said"
}

check_units()
{
	local units=$box_prefix/lib/systemd
	verify verify "$units/system/pyheapd.service" "$units/system/pyheapd.socket"
	mkdir -p /run/user/0
	XDG_RUNTIME_DIR=/run/user/0 verify --user verify "$units/user/pyheapd.service" "$units/user/pyheapd.socket"
	echo "ok: verified"
	systemd-analyze security --offline=true --threshold=30 --no-pager "$units/system/pyheapd.service" >/box/security ||
		{ cat /box/security; fail "exposed more than 3.0"; }
	tail -n 1 /box/security
}

# Enabling one enables both: the socket with the others, the daemon with the system.
check_enable()
{
	local links=/etc/systemd/system
	systemctl --root=/ --quiet enable pyheapd.service 2>>/box/log || fail "enable"
	[ -L "$links/sockets.target.wants/pyheapd.socket" ] || fail "the socket is not enabled"
	[ -L "$links/multi-user.target.wants/pyheapd.service" ] || fail "the service is not enabled"
	echo "ok: enabled"
}

# The socket is made by another process, and stays its: with its rights, and not removed by the daemon.
check_socket_activate()
{
	local pid
	export PYHEAP_SOCKET=/run/pyheap/pyheap.sock
	systemd-socket-activate --listen="$PYHEAP_SOCKET" "$box_prefix/bin/pyheapd" --name activated 2>>/box/log &
	pid=$!
	until_true "the socket" test -S "$PYHEAP_SOCKET"
	[ ! -e /dev/shm/pyheap.activated.ctl ] || fail "the daemon runs before anybody connects"
	echo hello | pyheapctl put greeting || fail "put"
	[ "$(pyheapctl get greeting)" = hello ] || fail "get"
	kill "$pid" # the daemon took the place of systemd-socket-activate
	wait "$pid" || fail "the daemon ended with $?"
	[ -S "$PYHEAP_SOCKET" ] || fail "the daemon removed a socket that is not its own"
	[ -z "$(find /dev/shm -name 'pyheap.*')" ] || fail "left behind: $(ls /dev/shm)"
	echo "ok: socket activation"
}

check_units
case $box_prefix in /usr | /usr/local) check_enable ;; esac # systemd looks nowhere else
check_socket_activate
