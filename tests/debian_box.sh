#!/bin/bash
# shellcheck disable=SC2154
# SPDX-License-Identifier: MIT
# What tests/debian.sh does with the packages under a real systemd: arguments are the folder of the packages and the
# source. The box is that of the service's tests; here apt installs what is in it.
set -euo pipefail
. "$(dirname "$0")/system/systemd_box.sh"

# ---- the box, where it differs

box_install()
{
	mkdir "$box_dir/installed"
}

box_option()
{
	case $1 in prefix) echo /usr ;; libdir) echo lib ;; esac
}

box_prepare()
{
	cd /
	export DEBIAN_FRONTEND=noninteractive
	rm -f /usr/sbin/policy-rc.d # which forbids to start services, in some images
	# The machine's other units stay out of it: they would load modules and the like.
	find /lib/systemd/system -path '*.wants/*' -delete
	find /etc/systemd/system -depth -path '*.wants*' -delete
}

box_systemd()
{
	mkfifo /dev/kmsg # where it says what it does, as there is no console
	cat <>/dev/kmsg >>/box/log &
	exec env -i container=other PATH="$PATH" /lib/systemd/systemd --system --unit=multi-user.target --log-target=kmsg \
		--log-level=info --show-status=no </dev/null >>/box/log 2>&1
}

# ---- what is tried

manager_answers()
{
	case $(systemctl is-system-running) in running | degraded) ;; *) return 1 ;; esac
}

# What is on the machine, but for the package manager's and the users' own records.
list_files()
{
	{
		find / -xdev -path /box -prune -o -path "$box_build" -prune -o -path "$box_source" -prune -o -print |
			grep -v -e '^/var/lib/dpkg/' -e '^/var/lib/apt/' -e '^/var/cache/' -e '^/var/log/' -e '^/root/' \
				-e '^/etc/\(passwd\|group\|shadow\|gshadow\)-\?$' -e /__pycache__ -e '^/etc/ld.so.cache$' -e '^/etc/[.]pwd.lock$'
		find /run /dev/shm | grep pyheap || :
	} | sort
}

apt_quietly()
{
	apt-get -y --no-install-recommends "$@" >/box/apt.log 2>&1 || { cat /box/apt.log; fail "apt-get $*"; }
}

check_installed()
{
	local unit
	apt_quietly install "$box_build"/*.deb
	for unit in pyheapd.socket pyheapd.service; do
		[ "$(systemctl is-active $unit)" = active ] || { systemctl status $unit || :; fail "$unit is not active after the installation"; }
		[ "$(systemctl is-enabled $unit)" = enabled ] || fail "$unit is not enabled"
	done
	[ -z "$(find /etc/systemd/user -name 'pyheapd.*')" ] || fail "every user is to have a daemon"
	[ "$(stat -c %U "/proc/$(systemctl show --value --property=MainPID pyheapd.service)")" = pyheap ] || fail "not the user pyheap's"
	[ "$(stat -c '%a %U' /run/pyheap)" = "755 pyheap" ] || fail "/run/pyheap: $(ls -ld /run/pyheap)"
	pyheapctl --version
	for page in man1/pyheapctl.1 man3/pyheap_open.3 man7/pyheap.7 man8/pyheapd.8; do
		zcat "/usr/share/man/$page.gz" | grep pyheap >/dev/null || fail "there is no $page"
	done
	! readelf -d /usr/bin/pyheapctl /usr/bin/pyheapd | grep -e RPATH -e RUNPATH || fail "an rpath"
	echo "ok: installed, the service has started"
}

check_autopkgtest()
{
	local name
	autopkgtest --no-built-binaries "$box_source" -- null >/box/autopkgtest.log 2>&1 ||
		{ cat /box/autopkgtest.log; fail "autopkgtest"; }
	for name in library service; do
		grep -q "^$name  *PASS" /box/autopkgtest.log || { cat /box/autopkgtest.log; fail "debian/tests/$name"; }
	done
	[ -z "$(find /dev/shm -name 'pyheap.autopkgtest*')" ] || fail "left behind by debian/tests: $(ls /dev/shm)"
	echo "ok: debian/tests"
}

# An upgrade restarts the service, which adopts its heap.
check_reinstalled()
{
	local pid
	pid=$(systemctl show --value --property=MainPID pyheapd.service)
	echo "still there" | pyheapctl put upgraded
	apt_quietly install --reinstall "$box_build"/*.deb
	[ "$(systemctl is-active pyheapd.service)" = active ] || fail "not active after the upgrade"
	[ "$(systemctl show --value --property=MainPID pyheapd.service)" != "$pid" ] || fail "not restarted by the upgrade"
	[ "$(pyheapctl get upgraded)" = "still there" ] || fail "the heap is lost by an upgrade"
	pyheapctl check || fail "check"
	echo "ok: upgraded, the heap adopted"
}

check_removed()
{
	apt_quietly remove pyheapd
	[ -z "$(pgrep -u pyheap || :)" ] || fail "a process of pyheap's is left"
	[ ! -S /run/pyheap/pyheap.sock ] || fail "the socket is left"
	[ -n "$(find /dev/shm -name 'pyheap.default.heap')" ] || fail "the heap went with the removal"
	echo "ok: removed, the heap stays"
	touch /dev/shm/pyheap.of-a-user.heap
	apt_quietly purge pyheapd libpyheap0 libpyheap-dev
	[ -e /dev/shm/pyheap.of-a-user.heap ] || fail "purging took another user's heap"
	rm /dev/shm/pyheap.of-a-user.heap
	list_files >/box/after
	diff /box/before /box/after || fail "that is left, or missing, after the purge"
	[ -z "$(dpkg-query -W -f '${Package}\n' '*pyheap*' 2>/dev/null)" ] || fail "dpkg knows of it"
	getent passwd pyheap >/dev/null || fail "the user pyheap went, which is to stay"
	echo "ok: purged, nothing is left but the user pyheap"
}

box_enter SYSTEMD "$@"

export PYHEAP_SOCKET=/run/pyheap/pyheap.sock
until_true "the manager" manager_answers
list_files >/box/before
check_installed
check_autopkgtest
check_reinstalled
check_removed
