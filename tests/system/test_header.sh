#!/bin/sh
# SPDX-License-Identifier: MIT
# pyheap.h is quiet in C and C++, by each compiler that is here, whatever the standard: its inline calls and macros give
# no warning, also where casts of C and zeros as pointers are asked for. The argument is the source folder.
set -eu
source=$1
tests=$source/tests/system
tmp=$(mktemp -d /tmp/pyheap-header-XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP
n=0

compiles() { # compiler, flags and file...
	"$@" -fsyntax-only -O2 -Wall -Wextra -Wpedantic -Wconversion -Werror -I"$source/include" || {
		echo "test_header: $*" >&2
		exit 1
	}
	n=$((n + 1))
}

# Every function by its address, and every inline call.
cat > "$tmp/use.c" <<'END'
#include <pyheap.h>

int use(pyheap *heap, pyheap_stats *stats);

int use(pyheap *heap, pyheap_stats *stats)
{
	int (*read_stats)(pyheap *, pyheap_stats *) = pyheap_get_stats;
	pyheap_ref ref = PYHEAP_VERSION_MAJOR + PYHEAP_VERSION_MINOR + PYHEAP_VERSION_PATCH;

	if (pyheap_new(heap, PYHEAP_BYTES, 48, &ref) < 0 || pyheap_incref(heap, ref) < 0 || !pyheap_data(heap, ref))
		return -1;
	return pyheap_decref(heap, ref) + pyheap_stats(heap, stats) + read_stats(heap, stats);
}
END
printf '#include <pyheap.h>\n#include <pyheap.h>\n#include <pyheap-inline.h>\nint unused;\n' > "$tmp/twice.c"

for compiler in gcc clang; do
	command -v "$compiler" >/dev/null || { echo "no $compiler here"; continue; }
	for std in c99 c11 c17 gnu89 gnu11 gnu17; do
		for define in PYHEAP_INLINE_CALLS PYHEAP_NO_INLINE; do
			compiles "$compiler" -std=$std -D$define -Wstrict-prototypes -Wundef -Wno-long-long "$tmp/use.c"
		done
	done
	compiles "$compiler" -std=gnu11 "$tmp/twice.c"
done

for compiler in g++ clang++; do
	command -v "$compiler" >/dev/null || { echo "no $compiler here"; continue; }
	cast=
	[ "$compiler" = clang++ ] || cast=-Wuseless-cast
	for std in c++11 c++14 c++17 c++20 gnu++17; do
		for define in PYHEAP_INLINE_CALLS PYHEAP_NO_INLINE; do
			compiles "$compiler" -std=$std -D$define $cast -Wold-style-cast -Wzero-as-null-pointer-constant \
				-Wsign-conversion -Wcast-qual -Wundef "$tests/header_use.cc"
		done
	done
	compiles "$compiler" -std=c++11 -x c++ "$tmp/twice.c"
done
echo "compiled $n times without a warning"
[ $n -gt 10 ]
