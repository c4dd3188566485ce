#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs a fuzzer from its own seeds, always with the same random numbers.
#
# usage: fuzz.sh FUZZER SEEDS libfuzzer|plain RUNS [FOLDER]
#   FUZZER  the fuzzer; SEEDS  the program that writes its seeds
#   RUNS    how many inputs are tried, beside the seeds; or "12m": that many minutes, by libFuzzer
#   FOLDER  where the inputs that libFuzzer finds worth keeping are kept, and those that show a fault (default: nowhere)
set -euo pipefail

fuzzer=$1 seeds=$2 kind=$3 runs=$4 folder=${5:-}
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$own/seeds" "$own/found"
"$seeds" --seeds "$own/seeds"
if [ "$kind" = plain ]; then
	"$fuzzer" --runs "$runs" --seed 1 "$own/seeds"
	exit
fi
found=${folder:-$own/found}
mkdir -p "$found/faults"
# 25 s are a hang: an input takes a few milliseconds.
limits=(-runs="$runs" -seed=1)
[ "$runs" = "${runs%m}" ] || limits=(-max_total_time=$((${runs%m} * 60)))
"$fuzzer" "${limits[@]}" -timeout=25 -max_len=4096 -print_final_stats=1 -artifact_prefix="$found/faults/" \
	"$found" "$own/seeds"
