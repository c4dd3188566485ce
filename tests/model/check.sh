#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Look at every state of a model by spin.
#
# usage: check.sh sound|faulty MODEL.pml [-DNAME[=VALUE]...]
#   sound   no assertion fails, whatever happens in whatever order
#   faulty  one does: the fault that -DPLANT_... puts in is found
# Prints how many states there are. Exits with 77 (skipped) where there is no spin.
set -euo pipefail

want=$1
model=$(basename "$2")
folder=$(cd "$(dirname "$2")" && pwd -P)
shift 2

command -v spin >/dev/null || { echo "there is no spin"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$folder"/*.pml "$dir"
cd "$dir"

spin "$@" -a "$model" >spin.log 2>&1 || { cat spin.log; exit 1; }
# COLLAPSE: states are kept small. NOREDUCE: the reduction does not know `unless`. -E: see the watcher in memory.pml.
${CC:-cc} -O2 -w -DSAFETY -DNOREDUCE -DCOLLAPSE -DMEMLIM=2048 -o pan pan.c
./pan -m100000 -E >pan.log 2>&1 || { cat pan.log; exit 1; }

# A search that was not completed says nothing.
if grep -qE 'max search depth|out of memory|memory limit|reached -DMEMLIM' pan.log; then
	cat pan.log
	exit 1
fi
n_states=$(awk '/states, stored/ { print $1 }' pan.log)
n_errors=$(awk '/errors:/ { print $NF }' pan.log)
[ -n "$n_states" ] && [ -n "$n_errors" ] || { cat pan.log; exit 1; }
echo "$model $*: $n_states states, $n_errors errors"

case $want in
sound)
	[ "$n_errors" = 0 ] && exit 0
	grep -a '^pan:1' pan.log
	spin "$@" -t -p -g "$model" | tail -n 300
	exit 1
	;;
faulty)
	grep -a '^pan:1: assertion violated [^-]' pan.log && exit 0
	grep -a '^pan:1' pan.log || true
	echo "the fault was not found"
	exit 1
	;;
esac
exit 2
