#!/bin/bash
# SPDX-License-Identifier: MIT
# The system's units, with all their hardening, under a systemd that is process 1 of the box.
set -euo pipefail
. "$(dirname "$0")/systemd_box.sh"
. "$(dirname "$0")/systemd_service.sh"
box_enter SYSTEMD "$@"

service_ctl()
{
	systemctl "$@"
}

manager_answers()
{
	case $(systemctl is-system-running) in running | degraded) ;; *) return 1 ;; esac
}

# as_user UID GROUP COMMAND...: a process of an ordinary user
as_user()
{
	setpriv --reuid "$1" --regid "$1" --groups "$2" "${@:3}"
}

# Who is in the group may connect, others may not; the daemon sees the processes of other users as they are.
check_access()
{
	local gid
	gid=$(getent group pyheap | cut -d : -f 3)
	[ "$gid" -lt 1000 ] || fail "the group is not the system's: $gid"
	[ "$(id -u pyheap)" -lt 1000 ] || fail "the user is not the system's"
	[ "$(stat -c '%a %U %G' /run/pyheap/pyheap.sock)" = "660 root pyheap" ] || fail "$(ls -l /run/pyheap)"
	[ "$(stat -c %U "/proc/$(property MainPID)")" = pyheap ] || fail "the daemon is not the user pyheap's"
	[ "$(stat -c '%a %U' /dev/shm/pyheap.*.heap)" = "600 pyheap" ] || fail "$(ls -l /dev/shm)"
	[ "$(as_user 12345 "$gid" pyheapctl --socket "$PYHEAP_SOCKET" get greeting)" = hello ] || fail "the group cannot connect"
	! as_user 12345 12345 pyheapctl --socket "$PYHEAP_SOCKET" get greeting 2>/dev/null || fail "everybody can connect"
	as_user 12345 "$gid" pyheapctl --socket "$PYHEAP_SOCKET" clients | tee /box/clients
	grep -q 12345 /box/clients || fail "the client's user is not seen"
	echo "ok: access by group"
}

locker_is_stopped()
{
	grep -q '^State:.*stopped' "/proc/$locker/status"
}

# lock_and_stop: a process of another user takes the global lock and is stopped
lock_and_stop()
{
	local gid
	gid=$(getent group pyheap | cut -d : -f 3)
	setpriv --reuid 12345 --regid 12345 --groups "$gid" "$box_build/tests/system/systemd_locker" "$PYHEAP_SOCKET" &
	locker=$!
	until_true "the client has the lock and is stopped" locker_is_stopped
}

# The service has no right to end it: its log says so, and everybody waits for somebody who has.
check_no_eviction()
{
	drop_in 'Environment="PYHEAPD_OPTIONS=--lock-timeout 1"'
	systemctl restart pyheapd.service || fail "restart"
	[ "$(grep ^CapEff /proc/"$(property MainPID)"/status | tr -d '[:alpha:]:[:space:]0')" = "" ] || fail "it has a capability"
	lock_and_stop
	until_true "the log says whom to end" grep -q "cannot be evicted: Operation not permitted" /box/log
	locker_is_stopped || fail "it was ended all the same"
	kill -KILL "$locker"
	wait "$locker" || :
	put after-kill "goes on"
	echo "ok: without CAP_KILL the log says whom to end"
}

# With the drop-in that is shipped the daemon may do just that.
check_eviction()
{
	local status=0
	mkdir -p "$service_drop_in"
	cp "$(find "$box_prefix/share/doc" -name evict.conf)" "$service_drop_in/evict.conf"
	systemctl daemon-reload
	systemctl restart pyheapd.service || fail "restart"
	lock_and_stop
	echo "goes on" | timeout 60 pyheapctl put after-eviction || fail "the stopped client is not evicted"
	expect_object after-eviction "goes on"
	wait "$locker" || status=$?
	[ "$status" = 137 ] || fail "the stopped client ended with $status"
	rm "$service_drop_in/evict.conf"
	drop_in
	echo "ok: a stopped owner of the lock is evicted"
}

# RemoveIPC= must not take the heap away, when no process of the user is left either.
check_remove_ipc()
{
	systemctl stop pyheapd.service
	[ -z "$(find /proc -maxdepth 1 -user pyheap)" ] || fail "processes of the user pyheap are left"
	[ "$(find /dev/shm -user pyheap -name 'pyheap.*' | wc -l)" = 3 ] || fail "the heap was taken away: $(ls /dev/shm)"
	systemctl start pyheapd.service
	expect_object greeting "hello"
	echo "ok: the heap outlives the last process of its user"
}

export PYHEAP_SOCKET=/run/pyheap/pyheap.sock
service_drop_in=/run/units/pyheapd.service.d
service_unit=/run/units/pyheapd.service
until_true "the manager" manager_answers

check_service
check_access
check_no_eviction
check_eviction
check_remove_ipc
systemctl stop pyheapd.socket pyheapd.service
setpriv --reuid pyheap --regid pyheap --clear-groups pyheapd --name default --remove || fail "--remove"
[ -z "$(find /dev/shm -name 'pyheap.*')" ] || fail "left behind: $(ls /dev/shm)"
echo "ok: removed"
