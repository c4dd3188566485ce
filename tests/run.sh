#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The tests. Without an option the quick ones, some minutes: built by gcc, the unit tests, the daemon with real clients,
# the models at small bounds, a sample of the crash tests, the format and the includes of the sources.
# With --full all of them, half an hour: every test as gcc builds it; the unit tests as clang builds them; what the
# address, undefined-behaviour and thread sanitizers and valgrind can show; fuzzers that are guided by coverage; every
# model; the demo.
# Ends non-zero where anything failed, and says at its end once more what and how; the last line is "N passed, N failed,
# N skipped", builds counted as well.
#
# usage: tests/run.sh [--full]
#   PYHEAP_BUILD=DIR   where to build (default: build-run in the project's folder)
set -uo pipefail
export LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=${PYHEAP_BUILD:-$top/build-run}
n_passed=0
n_failed=0
n_skipped=0
log=$(mktemp)
failures=$(mktemp)
began=$SECONDS
trap 'rm -f "$log" "$failures"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say()
{
	printf '\n== %s (after %d s)\n' "$*" $((SECONDS - began))
}

# passed or failed: one step that is no test of meson's
note()
{
	if [ "$1" = 0 ]; then
		n_passed=$((n_passed + 1))
	else
		n_failed=$((n_failed + 1))
		echo "FAILED: $2" | tee -a "$failures"
	fi
}

# The same of what has left its output in the log.
note_logged()
{
	[ "$1" = 0 ] || tail -n 100 "$log" >>"$failures"
	note "$1" "$2"
}

# build_as NAME OPTION...: set up and build all, or $build_target; false where that fails
build_as()
{
	local name=$1 status=0
	shift
	say "building: $name"
	if [ -f "$build/$name/build.ninja" ]; then
		meson configure "$build/$name" "$@"
	else
		meson setup "$build/$name" "$top" "$@"
	fi >"$log" 2>&1 && ninja -C "$build/$name" -j 2 --quiet ${build_target:+"$build_target"} >>"$log" 2>&1 || status=1
	[ $status = 0 ] || tail -n 100 "$log"
	note_logged $status "the build $name"
	return $status
}

# How many tests ended in one of the named ways, as meson's summary says.
count_of()
{
	awk -F: -v names="$1" '
		BEGIN { split(names, list, ","); for (i in list) wanted[list[i]] = 1 }
		$1 in wanted && $2 ~ /^ *[0-9]+ *$/ { n += $2 }
		END { print n + 0 }' "$log"
}

# Which tests failed, and what they printed, out of what meson did: the first stand below a heading, the second between
# two lines of dashes each.
failures_of()
{
	awk '
		/^――/ { inside = !inside; print; next }
		/^Summary of Failures/ { listed = 1 }
		/^Ok: / { listed = 0 }
		inside || listed' "$log"
}

# test_in NAME ARGUMENT...: run tests of a build and add up what came of them
test_in()
{
	local name=$1 status=0 passed failed skipped
	shift
	say "testing: $name $*"
	meson test -C "$build/$name" --no-rebuild --num-processes 2 --print-errorlogs "$@" 2>&1 | tee "$log" || status=1
	passed=$(count_of "Ok,Expected Fail")
	failed=$(count_of "Fail,Unexpected Pass,Timeout")
	skipped=$(count_of "Skipped")
	n_passed=$((n_passed + passed))
	n_failed=$((n_failed + failed))
	n_skipped=$((n_skipped + skipped))
	[ "$failed" = 0 ] || { echo "== in $name $*"; failures_of; } >>"$failures"
	# Something went wrong that no test stands for: meson itself, or nothing was run at all.
	if [ "$failed" = 0 ] && { [ $status != 0 ] || [ $((passed + skipped)) = 0 ]; }; then
		note_logged 1 "meson test in $name"
	fi
}

run_quick()
{
	build_as gcc -Dwerror=true && test_in gcc
}

run_full()
{
	if build_as gcc -Dwerror=true; then
		test_in gcc --setup full
		say "the demo"
		PYHEAP_BUILD=$build/gcc "$top/tests/demo.sh" 2>&1 | tee "$log"
		note_logged $? "tests/demo.sh"
	fi

	CC=clang CXX=clang++ build_as clang -Dwerror=true && test_in clang --suite unit

	# The crash tests among them: those in which a sanitizer sees what the stepper does not.
	build_as sanitize -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fno-sanitize-recover=all &&
		ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 test_in sanitize \
			--setup full --suite unit --suite system --suite fuzz --suite sanitize

	CC=clang CXX=clang++ build_target=fuzzers build_as fuzzers -Dfuzzers=true -Db_sanitize=address,undefined \
		-Db_lundef=false -Dc_args=-fno-sanitize-recover=all && test_in fuzzers --setup full --suite fuzzer

	# ThreadSanitizer knows no fences, and the compiler says so at each. None is needed for what it looks for: between the
	# living the lock and acquire loads order the same; the fences are for what a killed process leaves.
	build_as threads -Db_sanitize=thread -Db_lundef=false -Dc_args=-Wno-tsan &&
		TSAN_OPTIONS=halt_on_error=1 test_in threads --setup full --suite threads

	[ ! -f "$build/gcc/build.ninja" ] || test_in gcc --setup valgrind --suite valgrind
}

# As one function, which bash reads whole before it begins: the file may change meanwhile.
main()
{
	local tier=quick
	case ${1:-} in
	"") ;;
	--full) tier=full ;;
	*) echo "usage: tests/run.sh [--full]" >&2; exit 2 ;;
	esac
	# shellcheck source=tests/deps.sh
	. "$top/tests/deps.sh"
	"deps_$tier"
	note $? "installing what is missing"
	began=$SECONDS
	[ $n_failed != 0 ] || "run_$tier"

	[ $n_failed = 0 ] || { say "what failed"; cat "$failures"; }
	printf '\nin %d s\n' $((SECONDS - began))
	echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
	[ $n_failed = 0 ]
	exit
}

main "$@"
