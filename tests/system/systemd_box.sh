# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Sourced by test_systemd_*.sh: a box of the test's own, in which pyheap is installed and a real systemd can run
#
#     . systemd_box.sh; box_enter SHELL-or-SYSTEMD "$@"       "$@": meson's build folder, the project's folder
#
# What comes after box_enter runs inside the box, as root: namespaces of its own for mounts, processes, IPC, cgroups and
# the host's name; as its root this machine's, seen through an overlay that keeps every change in memory, with an own
# /run, /dev and /dev/shm; and pyheap installed there, under the build's prefix. Nothing that is done inside can be seen
# outside, and all of it goes with the box: also its processes, however the test ends.
#
# With SYSTEMD, process 1 of the box is a systemd as the machine's manager, which needs no init outside.
#
# Exits with 77 (skipped) where the kernel, or the user that runs the test, does not allow such a box.

skip()
{
	echo "SKIPPED: $*"
	exit 77
}

fail()
{
	echo "FAILED: $*" >&2
	exit 1
}

# until_true WHAT COMMAND...: wait for a condition, with a generous watch-dog
until_true()
{
	local what=$1 i
	shift
	for ((i = 0; i < 3000; i++)); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	fail "waited for five minutes: $what"
}

# ---- outside ------------------------------------------------------------------------------------------------------

# Install into a folder, and see that nothing lands outside of the prefix.
box_install()
{
	local outside
	meson install -C "$box_build" --no-rebuild --quiet --destdir "$box_dir/installed" >"$box_dir/install.log" 2>&1 ||
		{ cat "$box_dir/install.log"; fail "meson install"; }
	outside=$(find "$box_dir/installed" ! -type d ! -path "$box_dir/installed$box_prefix/*")
	[ -z "$outside" ] || fail "installed outside of the prefix: $outside"
}

# All that is mounted is mounted in here, and must not be seen outside. Where the root is no mount of its own (chroot) it
# cannot be made private; but then it may be private already, which what is mounted below it tells.
box_memory()
{
	mkdir "$box_dir/memory"
	mount --make-rprivate / 2>/dev/null || :
	mount -t tmpfs -o mode=755 tmpfs "$box_dir/memory" || return
	if grep -q " $box_dir/memory .* shared:" /proc/self/mountinfo; then
		umount "$box_dir/memory"
		echo "mounts would be seen outside" >&2
		return 1
	fi
}

# A control group of the box's own, in a hierarchy that a systemd can use: cgroup2 where the machine has nothing else,
# else a named one of cgroup v1. The caller goes into it.
box_cgroup_enter()
{
	mkdir "$box_dir/memory/cgroup"
	if [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then
		mount -t cgroup2 cgroup2 "$box_dir/memory/cgroup"
	else
		mount -t cgroup -o none,name=systemd cgroup "$box_dir/memory/cgroup"
	fi && mkdir "$box_dir/memory/cgroup/pyheap-test-$$" && echo "$BASHPID" >"$box_dir/memory/cgroup/pyheap-test-$$/cgroup.procs"
}

box_cgroup_remove()
{
	local i
	for ((i = 0; i < 100; i++)); do
		find "$box_dir/memory/cgroup/pyheap-test-$$" -depth -type d -exec rmdir {} + 2>/dev/null || :
		[ -d "$box_dir/memory/cgroup/pyheap-test-$$" ] || break
		sleep 0.1
	done
	umount "$box_dir/memory/cgroup"
}

# In a mount namespace of its own: start the box, wait for its verdict, end it.
box_outer()
{
	local pid status

	box_memory 2>"$box_dir/why" || skip "no mounts of its own: $(cat "$box_dir/why")"
	(
		box_cgroup_enter 2>"$box_dir/why" || { echo "no control groups: $(cat "$box_dir/why")" >"$box_dir/skipped"; exit; }
		exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child --propagation unchanged \
			env BOX_STAGE=inner BOX_DIR="$box_dir" bash "$box_script" "$box_build" "$box_source"
	) &
	pid=$!
	while kill -0 "$pid" 2>/dev/null && [ ! -f "$box_dir/out/status" ]; do
		sleep 0.1
	done
	kill -KILL "$pid" 2>/dev/null || :
	wait "$pid" 2>/dev/null || :
	box_cgroup_remove
	[ ! -f "$box_dir/skipped" ] || skip "$(cat "$box_dir/skipped")"
	status=$(cat "$box_dir/out/status" 2>/dev/null) || { cat "$box_dir/out/log"; fail "the box ended before the test"; }
	case $status in 0 | 77) ;; *) tail -n 60 "$box_dir/out/log" ;; esac
	exit "$status"
}

# ---- inside, before its root is there -----------------------------------------------------------------------------

box_devices()
{
	local node
	mount -t tmpfs -o mode=755 tmpfs "$1/dev"
	for node in null zero full random urandom tty; do
		touch "$1/dev/$node"
		mount --bind "/dev/$node" "$1/dev/$node"
	done
	ln -s /proc/self/fd "$1/dev/fd"
	ln -s /proc/self/fd/1 "$1/dev/stdout"
	ln -s /proc/self/fd/2 "$1/dev/stderr"
	mkdir "$1/dev/shm" "$1/dev/pts"
	mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$1/dev/pts"
	ln -s pts/ptmx "$1/dev/ptmx"
	mount -t tmpfs -o mode=1777,size=1g tmpfs "$1/dev/shm"
}

box_control_groups()
{
	if [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" = cgroup2fs ]; then
		mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
	else
		mount -t tmpfs -o mode=755 tmpfs "$1/sys/fs/cgroup"
		mkdir "$1/sys/fs/cgroup/systemd"
		mount -t cgroup -o none,name=systemd cgroup "$1/sys/fs/cgroup/systemd"
	fi
}

# The machine's files as they are, changes in memory; the kernel's knobs only to be read.
box_root()
{
	local memory=$box_dir/memory root=$box_dir/memory/root
	mkdir "$memory/changes" "$memory/work" "$root"
	mount -t overlay -o "lowerdir=/,upperdir=$memory/changes,workdir=$memory/work" overlay "$root"
	cp -a "$box_dir/installed/." "$root/"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
	mkdir -p "$root$box_build" "$root$box_source" "$root/box"
	mount --bind "$box_source" "$root$box_source"
	mount --bind "$box_build" "$root$box_build"
	mount --bind "$box_dir/out" "$root/box"
	mount -t proc proc "$root/proc"
	mount --bind "$root/proc/sys" "$root/proc/sys"
	mount -o remount,bind,ro "$root/proc/sys"
	mount -t sysfs -o ro sysfs "$root/sys"
	box_control_groups "$root"
	box_devices "$root"
}

box_inner()
{
	local root=$box_dir/memory/root
	(set -e; box_root) 2>"$box_dir/why" || { echo "no root of its own: $(cat "$box_dir/why")" >"$box_dir/skipped"; exit 1; }
	exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
		LC_ALL=C.UTF-8 BOX_STAGE=inside bash "$box_script" "$box_build" "$box_source"
}

# ---- inside -------------------------------------------------------------------------------------------------------

# What a package's installation would do, and the clients' way to the library.
box_prepare()
{
	export PATH=$box_prefix/bin:$PATH LD_LIBRARY_PATH=$box_prefix/$box_libdir
	cd /
	mkdir -p /run/systemd/system
	mkdir -p /etc/systemd/user
	ln -sf "$box_prefix"/lib/systemd/user/pyheapd.* /etc/systemd/user/
	systemd-sysusers "$box_prefix/lib/sysusers.d/pyheap.conf"
	systemd-tmpfiles --create "$box_prefix/lib/tmpfiles.d/pyheap.conf"
}

# The machine's other units stay out of it: they would load modules and the like.
box_systemd()
{
	local target
	mkdir /run/units
	for target in sysinit basic sockets shutdown umount box; do
		printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$target" >"/run/units/$target.target"
	done
	ln -s "$box_prefix"/lib/systemd/system/pyheapd.* /run/units/
	mkfifo /dev/kmsg # where it says what it does, as there is no console
	cat <>/dev/kmsg >>/box/log &
	exec env -i container=other PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units /lib/systemd/systemd --system --unit=box.target \
		--log-target=kmsg --log-level=info --show-status=no </dev/null >>/box/log 2>&1
}

# box_option NAME: of the build
box_option()
{
	meson introspect "$box_build" --buildoptions |
		python3 -c 'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == sys.argv[1]))' "$1"
}

box_enter()
{
	local first=$1
	box_build=$(cd "$2" && pwd -P)
	box_source=$(cd "$3" && pwd -P)
	box_script=$(realpath "$0")
	box_dir=${BOX_DIR:-}
	case ${BOX_STAGE:-} in
	'')
		[ "$(id -u)" = 0 ] || skip "only root can make namespaces with control groups"
		command -v systemd-analyze >/dev/null || skip "systemd is not installed"
		[ -x /lib/systemd/systemd ] || skip "systemd is not installed"
		box_dir=$(mktemp -d)
		trap 'rm -rf --one-file-system "$box_dir"' EXIT
		mkdir "$box_dir/out"
		: >"$box_dir/out/log"
		box_prefix=$(box_option prefix)
		box_libdir=$(box_option libdir)
		printf '%q=%q\n' box_prefix "$box_prefix" box_libdir "$box_libdir" >"$box_dir/out/options"
		box_install
		unshare --mount --propagation unchanged true 2>/dev/null || skip "no mount namespaces"
		unshare --mount --propagation unchanged env BOX_STAGE=outer BOX_DIR="$box_dir" bash "$box_script" "$2" "$3"
		exit
		;;
	outer) box_outer ;;
	inner) box_inner ;;
	inside)
		# shellcheck disable=SC1091
		. /box/options
		box_prepare
		if [ "$first" = SYSTEMD ]; then
			env BOX_STAGE=test setsid bash "$box_script" "$2" "$3" &
			box_systemd
		fi
		env BOX_STAGE=test bash "$box_script" "$2" "$3" &
		wait $!
		sleep 60 # until the reader of the verdict ends the box
		exit
		;;
	test)
		# shellcheck disable=SC1091
		. /box/options
		trap 'status=$?; echo $status >/box/status.new; mv /box/status.new /box/status' EXIT
		;;
	esac
}
