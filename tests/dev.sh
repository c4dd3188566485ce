#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What is done every day, by one word each; CONTRIBUTING.md tells more.
#
# usage: tests/dev.sh COMMAND [ARGUMENT...]
#   build               build with gcc, warnings as errors
#   quick               the quick tests, as tests/run.sh
#   full                all tests, as tests/run.sh --full
#   test NAME...        build, then run these tests of meson's, whatever tier they are in (`list` has the names)
#   list                the names of the tests, with their suites
#   format [--check]    format the C sources, or say which are not formatted
#   lint [FILE...]      clang-tidy by .clang-tidy, shellcheck, and the includes against the storeys
#   coverage            run the quick tests and say which lines they do not reach (build-dev/coverage.html)
#   sanitizer NAME...   build with the address and undefined-behaviour sanitizers, then run these tests (none: unit)
#   fuzz NAME [MINUTES] build by clang with libFuzzer and the sanitizers, and fuzz: "frames" or "adoption", 10 minutes
#                       unless said; what it has found is kept in build-dev/fuzz-NAME, faults in "faults" there
#   bench [OPTION...]   the benchmark, as tests/bench.sh
#   docs                the manual pages, built and checked
#   deps                install what the other commands need (Debian)
#   PYHEAP_BUILD=DIR    where to build (default: build-dev in the project's folder)
set -euo pipefail
export LC_ALL=C.UTF-8

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build=${PYHEAP_BUILD:-$top/build-dev}

# build_as NAME OPTION...: all, or $build_target
build_as()
{
	local dir=$build/$1
	shift
	if [ -f "$dir/build.ninja" ]; then
		meson configure "$dir" "$@"
	else
		meson setup "$dir" "$top" "$@"
	fi >&2
	ninja -C "$dir" ${build_target:+"$build_target"} >&2
}

dev_build()
{
	build_as gcc -Dwerror=true
}

dev_test()
{
	[ $# != 0 ] || { echo "which tests? tests/dev.sh list has the names" >&2; exit 2; }
	dev_build
	meson test -C "$build/gcc" --no-rebuild --print-errorlogs --setup full "$@"
}

dev_list()
{
	[ -f "$build/gcc/build.ninja" ] || dev_build
	meson introspect --tests "$build/gcc" | python3 -c '
import json, sys
for test in json.load(sys.stdin):
    print(test["name"].ljust(28), " ".join(suite.split(":")[-1] for suite in test["suite"]))'
}

dev_lint()
{
	local files=("$@")
	dev_build
	[ ${#files[@]} != 0 ] || mapfile -t files < <(cd "$top" && find heap proto client daemon -name '*.c' | sort)
	(cd "$top" && clang-tidy --quiet -p "$build/gcc" "${files[@]}") 2> >(grep -v ' warnings\? generated' >&2)
	(cd "$top" && find . -name '*.sh' ! -path './build*' -exec shellcheck -x -P SCRIPTDIR --severity=warning {} +)
	"$top/tests/includes.py"
}

dev_coverage()
{
	build_as coverage -Db_coverage=true -Doptimization=0
	find "$build/coverage" -name '*.gcda' -delete
	meson test -C "$build/coverage" --no-rebuild --suite unit --suite system || echo "== some tests failed" >&2
	gcovr -r "$top" "$build/coverage" -j 2 --exclude-unreachable-branches \
		-f "$top/heap/" -f "$top/proto/frame.c" -f "$top/client/" -f "$top/daemon/" \
		--html-details "$build/coverage.html" --txt "$build/coverage.txt"
	cat "$build/coverage.txt"
}

dev_sanitizer()
{
	build_as sanitize -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fno-sanitize-recover=all
	[ $# != 0 ] || set -- --suite unit
	ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
		meson test -C "$build/sanitize" --no-rebuild --print-errorlogs --setup full "$@"
}

dev_fuzz()
{
	local name=${1:-frames}
	CC=clang CXX=clang++ build_target=fuzzers build_as fuzzers -Dfuzzers=true -Db_sanitize=address,undefined \
		-Db_lundef=false -Dc_args=-fno-sanitize-recover=all
	"$top/tests/fuzz/fuzz.sh" "$build/fuzzers/tests/fuzz/fuzz_$name" "$build/fuzzers/tests/fuzz/fuzz_seeds_$name" \
		libfuzzer "${2:-10}m" "$build/fuzz-$name"
}

dev_docs()
{
	build_as gcc -Dwerror=true
	find "$build/gcc/doc" -name '*.[1-8]' -exec man --warnings -E UTF-8 -l -Tutf8 {} + >/dev/null
	find "$build/gcc/doc" -name '*.[1-8]' | sort
}

dev_deps()
{
	# shellcheck source=tests/deps.sh
	. "$top/tests/deps.sh"
	deps_dev
}

main()
{
	local command=${1:-}
	[ $# = 0 ] || shift
	case $command in
	build | test | list | lint | coverage | sanitizer | fuzz | docs | deps) "dev_$command" "$@" ;;
	quick) exec "$top/tests/run.sh" ;;
	full) exec "$top/tests/run.sh" --full ;;
	format) exec "$top/tests/format.sh" "$@" ;;
	bench) exec "$top/tests/bench.sh" "$@" ;;
	*)
		awk '/^# usage/ { on = 1 } !/^#/ { exit } on { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}" >&2
		exit 2
		;;
	esac
}

main "$@"
