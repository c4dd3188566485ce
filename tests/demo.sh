#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The main job on real input: every file of a folder tree (/usr/include) is put into a heap by one process and counted
# there by four others, of which one is killed; the totals are compared with those of find, wc and grep.
#
# usage: tests/demo.sh [FOLDER]
#   PYHEAP_BUILD=DIR   where to build (default: build-demo in the project's folder)
set -euo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
folder=$(cd "${1:-/usr/include}" 2>/dev/null && pwd -P) || { echo "${1:-/usr/include}: no such folder" >&2; exit 1; }
build=${PYHEAP_BUILD:-$top/build-demo}
name=demo-$$
work=
daemon=

cleanup()
{
	[ -z "$daemon" ] || { kill -CONT "$daemon"; kill "$daemon"; wait "$daemon"; } 2>/dev/null || :
	[ -z "$work" ] || rm -rf "$work" "/dev/shm/pyheap.$name."* # the heap as well, where the daemon crashed
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say()
{
	printf '\n== %s\n' "$*"
}

build()
{
	# shellcheck source=tests/deps.sh
	. "$top/tests/deps.sh"
	deps_build
	say "building in $build"
	[ -f "$build/build.ninja" ] || meson setup "$build" "$top" >"$work/setup.log" || { tail -n 30 "$work/setup.log"; exit 1; }
	ninja -C "$build" demo daemon/pyheapd client/ctl/pyheapctl
	PATH=$build/daemon:$build/client/ctl:$build/tests/demo:$PATH
}

# A heap of the tree's size and half of it again: every file takes whole pages, and the counts take some.
start_daemon()
{
	local needed room
	needed=$(find "$folder" -type f -printf '%s\n' | awk '{ n += int($1 / 4096 + 2) * 4096 } END { print int(n * 1.5) + 67108864 }')
	room=$(df --output=avail -B1 /dev/shm | tail -n 1)
	if [ "$needed" -gt "$room" ]; then
		echo "$folder needs about $((needed >> 20)) MiB in /dev/shm, which has $((room >> 20)) MiB free." >&2
		echo "Make it larger (mount -o remount,size=$((needed >> 20))m /dev/shm) or give a smaller folder." >&2
		exit 1
	fi
	say "starting pyheapd with a heap of at most $((needed >> 20)) MiB"
	export PYHEAP_SOCKET=$work/pyheap.sock
	pyheapd --socket "$PYHEAP_SOCKET" --name "$name" --log-level debug --size "$(((needed >> 20) + 1))M" 2>"$work/log" &
	daemon=$!
	until pyheapctl ls >/dev/null 2>&1; do
		kill -0 "$daemon" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
		sleep 0.1
	done
}

# What the heap really takes of the machine's memory, KiB.
heap_occupies()
{
	du -k "/dev/shm/pyheap.$name.heap" | cut -f 1
}

stats()
{
	say "pyheapctl stats, $1"
	pyheapctl stats
	echo "/dev/shm/pyheap.$name.heap occupies $(heap_occupies) KiB"
}

# The same figures by other means: "files N", "bytes N", "lines N", "words N", "identifiers N".
count_otherwise()
{
	local lines words bytes files identifiers
	find "$folder" -type f -print0 >"$work/files"
	files=$(tr -cd '\0' <"$work/files" | wc -c)
	read -r lines words bytes _ < <(wc -lwc --files0-from="$work/files" | tail -n 1)
	# xargs ends with 123 where grep found nothing in the files of one round.
	identifiers=$({ xargs -0 grep -ohaw '[A-Za-z_][A-Za-z0-9_]*' <"$work/files" || [ $? = 123 ]; } | sort -u | wc -l)
	printf '%s %s\n' files "$files" bytes "$bytes" lines "$lines" words "$words" identifiers "$identifiers"
}

compare()
{
	say "the totals, beside those of find, wc and grep -o | sort -u"
	printf '%-12s %15s %15s\n' "" "in the heap" "otherwise"
	paste -d ' ' "$work/heap" "$work/otherwise" | awk '
		{ same = $1 == $3 && $2 == $4; bad += !same }
		{ printf "%-12s %15s %15s  %s\n", $1, $2, $4, same ? "ok" : "DIFFERS" }
		END { exit bad || NR != 5 }'
}

wait_for_memory()
{
	local i
	for ((i = 0; i < 300; i++)); do
		[ "$(heap_occupies)" -gt 1024 ] || return 0
		sleep 0.1
	done
	echo "the memory did not come back: $(heap_occupies) KiB" >&2
	return 1
}

work=$(mktemp -d)
build
start_daemon
stats "before"

say "a loader puts every file under $folder into the heap, publishes it and exits"
demo-load "$folder"

say "four workers count; one is killed in the middle of a folder and a fresh one takes its place"
# wc's version says whether unprintable bytes alone make a word.
any_word=()
[ "$(printf '\351\n' | LC_ALL=C wc -w)" = 0 ] || any_word=(--any-word)
demo-crew "${any_word[@]}" "$build/tests/demo/demo-count"
echo "pyheapd has noticed: $(grep 'its process ended' "$work/log")"
demo-total >"$work/heap"

stats "at the peak"
pyheapctl ls

say "counting the same files by other means"
count_otherwise >"$work/otherwise"
result=0
compare || result=1

say "removing the names; the memory goes back"
pyheapctl rm demo.queue
pyheapctl rm demo.root
wait_for_memory || result=1
stats "after"

say "pyheapctl check"
pyheapctl check || result=1
if [ "$result" = 0 ]; then
	say "all as it should be"
else
	say "NOT as it should be"
fi
exit "$result"
