# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Sourced by test_systemd_user.sh and test_systemd_system.sh: what the service must do, of the system or of a user
#
# Uses: service_ctl COMMAND... (systemctl of that manager), $service_drop_in (the folder for a drop-in of the service),
# $service_unit (its file).
# shellcheck disable=SC2154

property()
{
	service_ctl show --value --property="$1" pyheapd.service
}

is_active()
{
	[ "$(service_ctl is-active pyheapd.service)" = active ]
}

# restarted_since PID: another main process is there, and has said that it is ready
restarted_since()
{
	is_active && [ "$(property MainPID)" != "$1" ] && [ "$(property MainPID)" != 0 ]
}

put()
{
	printf '%s' "$2" | pyheapctl put "$1" || fail "put $1"
}

# expect_object NAME CONTENTS
expect_object()
{
	local got
	got=$(pyheapctl get "$1") || fail "get $1"
	[ "$got" = "$2" ] || fail "object $1 is '$got' and not '$2'"
}

# drop_in LINE...: replace the drop-in by these lines under [Service]
drop_in()
{
	mkdir -p "$service_drop_in"
	# Leaks are looked for with ptrace(), which the unit forbids: for builds with AddressSanitizer.
	printf '%s\n' '[Service]' 'StandardError=append:/box/log' 'Environment=ASAN_OPTIONS=detect_leaks=0' "$@" >"$service_drop_in/test.conf"
	service_ctl daemon-reload
}

# The socket alone is started; the first client starts the daemon.
check_socket_activation()
{
	service_ctl start pyheapd.socket || fail "the socket does not start"
	! is_active || fail "the daemon runs before anybody connects"
	put greeting "hello"
	expect_object greeting "hello"
	is_active || fail "the daemon is not active although it served a client"
	[ -n "$(property StatusText)" ] || fail "the daemon gave no status"
	echo "ok: started by its socket: $(property StatusText)"
}

# It is active when the daemon says so, not when its process is there.
check_ready()
{
	local pid
	service_ctl stop pyheapd.service
	drop_in "ExecStart=" "ExecStart=/bin/sh -c 'kill -STOP \$\$\$\$; exec $(service_command)'"
	service_ctl start --no-block pyheapd.service
	until_true "the stopped process is there" main_process_is_stopped
	pid=$(property MainPID)
	[ "$(service_ctl is-active pyheapd.service)" = activating ] || fail "active before it was ready"
	kill -CONT "$pid"
	until_true "active" is_active
	[ "$(property MainPID)" = "$pid" ] || fail "another process is active"
	drop_in
	echo "ok: active only when the daemon said that it is ready"
}

main_process_is_stopped()
{
	grep -q '^State:.*stopped' "/proc/$(property MainPID)/status"
}

# The command of the unit as it is installed, with what its manager puts in.
service_command()
{
	sed -n 's/^ExecStart=\(.*\)[$]PYHEAPD_OPTIONS/\1/p' "$service_unit"
}

n_sessions()
{
	pyheapctl stats --json | sed -n 's/.*"n_sessions": *\([0-9]*\).*/\1/p'
}

# n_sessions_are N: besides the one that asks
n_sessions_are()
{
	[ "$(n_sessions)" = $(($1 + 1)) ]
}

# Clients that are at work when the daemon is killed go on: one has an object that nobody else holds, one needs memory.
check_kill()
{
	local pid reader writer
	pid=$(property MainPID)
	put before-kill "still there"
	head -c 8M /dev/urandom >/tmp/big
	mkfifo /tmp/out /tmp/in
	pyheapctl put big /tmp/big
	pyheapctl get big >/tmp/out &
	reader=$!
	exec 9</tmp/out
	head -c 4096 <&9 >/tmp/got # the reader has the object now, and waits for us
	pyheapctl rm big
	pyheapctl put streamed </tmp/in &
	writer=$!
	exec 8>/tmp/in
	head -c 4096 /tmp/big >&8
	until_true "both clients are connected" n_sessions_are 2

	kill -KILL "$pid"
	until_true "restart after kill -9" restarted_since "$pid"
	expect_object before-kill "still there"
	put after-kill "works on"
	expect_object after-kill "works on"
	pyheapctl check || fail "check after kill -9"

	tail -c +4097 /tmp/big >&8
	exec 8>&-
	wait "$writer" || fail "the client that was writing failed"
	cat <&9 >>/tmp/got
	exec 9<&-
	wait "$reader" || fail "the client that was reading failed"
	cmp /tmp/got /tmp/big || fail "the client that was reading got something else"
	pyheapctl get streamed | cmp - /tmp/big || fail "the client that was writing left something else"
	pyheapctl check || fail "check after the clients went on"
	rm /tmp/in /tmp/out
	echo "ok: killed with SIGKILL, restarted, the heap adopted, clients at work not disturbed"
}

check_watchdog()
{
	local pid
	drop_in "WatchdogSec=1s" "TimeoutAbortSec=1s" "LimitCORE=0"
	service_ctl restart pyheapd.service || fail "restart"
	expect_object before-kill "still there"
	pid=$(property MainPID)
	sleep 3 # three times the limit: who says that it works is left alone
	[ "$(property MainPID)" = "$pid" ] || fail "the watchdog ended a daemon that works"
	put before-stop "as well"
	kill -STOP "$pid"
	until_true "restart by the watchdog" restarted_since "$pid"
	expect_object before-stop "as well"
	pyheapctl check || fail "check after the watchdog"
	drop_in
	echo "ok: stopped with SIGSTOP, restarted by the watchdog, the heap adopted"
}

# --keep: stopping the service leaves the heap for the next start.
check_stop()
{
	service_ctl restart pyheapd.service || fail "restart"
	service_ctl stop pyheapd.service || fail "stop"
	[ "$(property Result)" = success ] || fail "it did not end well: $(property Result)"
	! is_active || fail "still active"
	[ "$(find /dev/shm -name 'pyheap.*.heap' | wc -l)" = 1 ] || fail "the heap is gone: $(ls /dev/shm)"
	service_ctl start pyheapd.service || fail "start"
	expect_object greeting "hello"
	echo "ok: stopped and started, the heap adopted"
}

check_service()
{
	drop_in
	check_socket_activation
	check_ready
	check_kill
	check_watchdog
	check_stop
}
