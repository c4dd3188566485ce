#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The whole benchmark: installs the peers that are missing, builds, measures, prints the table.
# Best on an idle machine; it takes two to five minutes.
#
# usage: tests/bench.sh [--publish] [OPTION...]
#   --publish          also write tests/bench/results.json, tests/bench/results.svg and the table in doc/benchmark.md
#   OPTION             of tests/bench/bench.py: --rounds N, --only WORK, --list, ...
#   PYHEAP_BUILD=DIR   where to build (default: build-bench in the project's folder)
set -euo pipefail
export LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=${PYHEAP_BUILD:-$top/build-bench}

main()
{
	# shellcheck source=tests/deps.sh
	. "$top/tests/deps.sh"
	# It is measured beside the peers that are there.
	deps_build
	deps_bench || echo "== some peers are missing; the table names them"
	# A build of before may know of fewer peers than there are now.
	meson setup "$build" "$top" --wipe >/dev/null 2>&1 || meson setup "$build" "$top"
	ninja -C "$build" -j 2
	PYHEAP_BENCH="$*" exec meson test -C "$build" --benchmark --no-rebuild --verbose
}

main "$@"
