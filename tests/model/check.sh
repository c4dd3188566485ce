#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Check a model in all its states by spin.
#
# usage: check.sh sound|planted MODEL.pml [NAME[=VALUE]...]
#   sound    no assertion fails, in whatever order the steps come
#   planted  an assertion fails: the fault that PLANT_... puts into the model is found
# Prints how many states there are. Exits with 77 (skipped) where there is no spin.
set -euo pipefail

want=$1
model=$(basename "$2")
folder=$(cd "$(dirname "$2")" && pwd -P)
shift 2
defines=("${@/#/-D}")

command -v spin >/dev/null || { echo "there is no spin"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cp "$folder"/*.pml "$dir"
cd "$dir"

spin "${defines[@]}" -a "$model" >spin.log 2>&1 || { cat spin.log; exit 1; }
# SAFETY: no search for cycles, and so no fairness either.
# NOREDUCE: the partial-order reduction does not know the rendezvous in `unless`; and saves few states.
# No COLLAPSE: it costs a third more time, and the largest model needs 700 MB without it.
# -O0: below four million states the optimizing compiler takes more time than it saves.
${CC:-cc} -O0 -w -DSAFETY -DNOREDUCE -DMEMLIM=2000 -o pan pan.c
# -E: the watcher in memory.pml says what a process is that cannot go on. The search ends at the first error.
./pan -m20000 -E >pan.log 2>&1 || { cat pan.log; exit 1; }

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
	spin "${defines[@]}" -t -p -g "$model" | tail -n 300
	exit 1
	;;
planted)
	grep -a '^pan:1: assertion violated [^-]' pan.log && exit 0
	grep -a '^pan:1' pan.log || true
	echo "the fault was not found"
	exit 1
	;;
esac
exit 2
