# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Sourced by tests/demo.sh, tests/run.sh and tests/bench.sh: what they need of the system, installed only where it is missing.

# To build, with the unit tests; the demo needs no more. (The man pages need scdoc, and are left out without it.)
deps_build()
{
	deps_install gcc libc6-dev meson ninja-build pkg-config libevent-dev libprotobuf-c-dev protobuf-c-compiler \
		libsystemd-dev check
}

# To run the quick tests.
deps_quick()
{
	deps_build && deps_install python3 spin clang clang-format-14
}

# To run all tests; g++ and Boost build one peer of the benchmark, so that it is compiled in every run of the tests.
deps_full()
{
	deps_quick && deps_install g++ libboost-dev valgrind systemd scdoc
}

# To work on it (tests/dev.sh): what the other commands need.
deps_dev()
{
	deps_full && deps_install clang-tidy gcovr shellcheck
}

# To measure beside all peers. Each is left out where it is missing; the servers are started by the benchmark itself.
deps_bench()
{
	deps_install g++ libboost-dev libpython3-dev libmimalloc-dev libjemalloc-dev python3 redis-server memcached valgrind
}

# Which of the packages are not there, one a line.
deps_missing()
{
	local package
	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
	done
}

# deps_install PACKAGE...
deps_install()
{
	local missing sudo=
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		echo "no apt-get here; the names in Debian of what is needed: $*" >&2
		return 0
	fi
	mapfile -t missing < <(deps_missing "$@")
	[ ${#missing[@]} != 0 ] || return 0
	if [ "$(id -u)" != 0 ]; then
		sudo="sudo"
		command -v sudo >/dev/null || { echo "as root: apt-get install ${missing[*]}" >&2; return 1; }
	fi
	echo "== installing ${missing[*]}"
	$sudo apt-get update -qq || return
	# One line a package, instead of apt-get's many.
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" 2>&1 |
		awk '/^(Setting up|E:|W:|dpkg: error)/ { print "   " $0; fflush() }'
	mapfile -t missing < <(deps_missing "$@")
	[ ${#missing[@]} = 0 ] || { echo "could not be installed: ${missing[*]}" >&2; return 1; }
}
