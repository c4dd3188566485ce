#!/bin/sh
# SPDX-License-Identifier: MIT
# What the library exports, and what `meson install` puts where: arguments are the build and the source folder.
#
# The exported symbols are those of the symbol file and the functions of the header, no more and no fewer. From an
# installation into a folder of its own, programs in C and C++ are built through pkg-config and run.
set -eu
build=$1
source=$2
tmp=$(mktemp -d /tmp/pyheap-install-XXXXXX)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM HUP

fail() {
	echo "test_install: $*" >&2
	exit 1
}

same() { # what, expected file, found file
	diff -u "$2" "$3" || fail "$1 differ"
}

DESTDIR=$tmp/root meson install -C "$build" --no-rebuild --quiet > "$tmp/log" 2>&1 || { cat "$tmp/log"; fail "meson install"; }
root=$tmp/root
pc=$(find "$root" -name pyheap.pc)
[ -n "$pc" ] || fail "no pyheap.pc"
libdir=$(dirname "$(dirname "$pc")")

# ---- symbols
lib=$(readlink -f "$libdir/libpyheap.so")
nm -D --defined-only "$lib" | sed -n 's/^[0-9a-f]* T \([^@]*\)@@PYHEAP_0$/\1/p' | sort > "$tmp/exported"
nm -D --defined-only "$lib" | grep -v ' A PYHEAP_0$' | sed 's/^[0-9a-f]* . //; s/@.*//' | sort > "$tmp/exported-all"
same "the functions and whatever else is exported" "$tmp/exported" "$tmp/exported-all"
sed -n '/global:/,/local:/s/^\t\(.*\);$/\1/p' "$source/client/libpyheap.sym" | sort > "$tmp/listed"
same "the symbol file and what is exported" "$tmp/listed" "$tmp/exported"
# A declaration starts a line of its own and is no macro.
find "$root" -name 'pyheap*.h' -exec cat {} + |
	sed -n 's/^[a-z][a-z0-9_ *]*[ *]\(pyheap_[a-z_]*\)(.*/\1/p' | sort > "$tmp/declared"
same "the header and what is exported" "$tmp/declared" "$tmp/exported"
[ "$(wc -l < "$tmp/exported")" -ge 30 ] || fail "only $(wc -l < "$tmp/exported") symbols were found"

# ---- names and what is needed
soname=$(readelf -d "$lib" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[ "$soname" = libpyheap.so.0 ] || fail "soname is $soname"
[ "$(readlink -f "$libdir/$soname")" = "$lib" ] || fail "$soname does not lead to $lib"
needed=$(readelf -d "$lib" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort | grep -v -e '^libasan' -e '^libubsan' -e '^libtsan' \
	-e '^libgcc_s' | tr '\n' ' ')
[ "$needed" = "libc.so.6 libprotobuf-c.so.1 " ] || fail "the library needs $needed"
for program in pyheapctl pyheapd; do
	[ -x "$(find "$root" -path "*/bin/$program" -type f)" ] || fail "$program is not installed"
done

# ---- pages and completions
share=$(dirname "$(dirname "$(find "$root" -path '*/doc/pyheap/README.md')")")/..
if [ -e "$build/doc/pyheap.3" ]; then
	while read -r call; do
		page=$share/man/man3/$call.3
		[ -s "$page" ] || fail "there is no page $call(3)"
		grep -q "$(echo "$call" | sed 's/_/\\\\*_/g')" "$page" || fail "the page $call(3) does not speak of it"
	done < "$tmp/listed"
	for page in man1/pyheapctl.1 man3/pyheap.3 man3/pyheap_stats.3 man7/pyheap.7 man8/pyheapd.8; do
		[ -s "$share/man/$page" ] || fail "there is no $page"
	done
else
	echo "built without man pages: none are looked for"
fi
for program in pyheapctl pyheapd; do
	grep -q "complete -F _$program $program" "$(find "$root" -path "*/completions/$program")" || fail "completion of $program in bash"
	grep -q "#compdef $program" "$(find "$root" -path "*/zsh/*/_$program")" || fail "completion of $program in zsh"
done

# ---- programs built from it
cat > "$tmp/program.c" <<'END'
#include <pyheap.h>
#include <stdio.h>
#include <string.h>

/* The inline calls, without a session. */
static int calls_fail(pyheap *heap)
{
	pyheap_ref ref = 8;

	return pyheap_new(heap, PYHEAP_BYTES, 48, &ref) < 0 && pyheap_incref(heap, ref) < 0 && !pyheap_data(heap, ref) &&
		pyheap_decref(heap, ref) < 0;
}

int main(void)
{
	pyheap *heap = NULL;
	pyheap_stats stats;
	int (*read_stats)(pyheap *, pyheap_stats *) = pyheap_get_stats;
	int r = pyheap_open(&heap, "/nowhere/at/all");

	memset(&stats, 0, sizeof(stats));
	printf("%s\n%d\n", pyheap_version(), r == -2 && calls_fail(heap) && pyheap_stats(heap, &stats) < 0 && read_stats(heap, &stats) < 0);
	return pyheap_close(heap) != NULL;
}
END
# In C++ pyheap_stats is the type alone.
sed 's/ pyheap_stats(heap/ pyheap_get_stats(heap/' "$tmp/program.c" >"$tmp/program.cpp"
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR="$root"
version=$(pkg-config --modversion pyheap)
if nm -D "$lib" | grep ' U __[at]san_' >/dev/null; then
	echo "a library with a sanitizer is for programs with the same one: none are built here"
	exit 0
fi
build_and_run() { # compiler, source, flags...
	compiler=$1 file=$2
	shift 2
	# shellcheck disable=SC2046
	$compiler -Wall -Wextra -Werror -pedantic "$@" -o "$tmp/program" "$file" $(pkg-config --cflags --libs pyheap) ||
		fail "$compiler $*"
	[ "$(LD_LIBRARY_PATH=$libdir "$tmp/program" | tr '\n' ' ')" = "$version 1 " ] || fail "the program of $compiler $*"
	echo "built and run: $compiler $*"
}
is_inline() { # yes or no, of the program built last: does it call what the inline calls leave to the library?
	calls=$(nm "$tmp/program" | grep -c -e ' U pyheap_decref_last' -e ' U pyheap_new_bytes' || true)
	[ "$1 $calls" = "yes 2" ] || [ "$1 $calls" = "no 0" ] || fail "inline calls: $1 was expected, there are $calls"
}
build_and_run cc "$tmp/program.c" -std=c99
build_and_run cc "$tmp/program.c" -std=gnu11
if command -v c++ >/dev/null; then
	build_and_run c++ "$tmp/program.cpp" -std=c++98 -Wno-long-long
	build_and_run c++ "$tmp/program.cpp" -std=c++11
	build_and_run c++ "$tmp/program.cpp" -std=c++20
	build_and_run c++ "$tmp/program.cpp" -std=c++98 -Wno-long-long -O2
	is_inline yes
	build_and_run c++ "$tmp/program.cpp" -std=c++20 -O3
	is_inline yes
else
	echo "no C++ compiler: no program of it is built"
fi
for compiler in cc clang; do
	command -v "$compiler" >/dev/null || continue
	build_and_run "$compiler" "$tmp/program.c" -std=gnu11 -O0
	is_inline no
	build_and_run "$compiler" "$tmp/program.c" -std=gnu11 -O2 -DPYHEAP_NO_INLINE
	is_inline no
	for std in gnu89 c99 gnu11; do
		build_and_run "$compiler" "$tmp/program.c" -std=$std -O2
		is_inline yes
	done
done

# ---- pyheapctl finds the library by itself, wherever both are
unset PKG_CONFIG_SYSROOT_DIR LD_LIBRARY_PATH
ctl=$(find "$root" -path "*/bin/pyheapctl")
if readelf -d "$ctl" | grep 'RUNPATH.*[$]ORIGIN' >/dev/null; then
	[ "$("$ctl" --version)" = "pyheapctl $version" ] || fail "the installed pyheapctl"
else # under /usr it is the loader that knows
	readelf -d "$ctl" | grep -e RPATH -e RUNPATH >/dev/null && fail "pyheapctl has an rpath"
	[ "$(LD_LIBRARY_PATH=$libdir "$ctl" --version)" = "pyheapctl $version" ] || fail "the installed pyheapctl"
fi
# Under another prefix, as that prefix's own build: pyheapctl, and a program by its pyheap.pc alone.
install_at() { # prefix
	prefix=$1
	# shellcheck disable=SC2086
	{ meson setup $reconfigure "$tmp/build" "$source" --prefix "$prefix" -Dtests=false -Dman=disabled -Dbuildtype=plain &&
		ninja -C "$tmp/build" -j 2 && DESTDIR=$destdir meson install -C "$tmp/build" --no-rebuild; } > "$tmp/log" 2>&1 ||
		{ tail -n 30 "$tmp/log"; fail "a build for $prefix"; }
}
destdir='' reconfigure=''
install_at "$tmp/opt/x"
"$tmp/opt/x/bin/pyheapctl" --version > "$tmp/said" 2>&1 || { cat "$tmp/said"; fail "pyheapctl under a prefix of its own"; }
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/opt/x" -name pyheap.pc)")
[ "$(pkg-config --variable=prefix pyheap)" = "$tmp/opt/x" ] || fail "pyheap.pc has another prefix"
# shellcheck disable=SC2046
cc -o "$tmp/program" "$tmp/program.c" $(pkg-config --cflags --libs pyheap) -Wl,-rpath,"$(pkg-config --variable=libdir pyheap)" ||
	fail "a program by pyheap.pc"
[ "$("$tmp/program" | tr '\n' ' ')" = "$version 1 " ] || fail "the program under a prefix of its own"
mv "$tmp/opt/x" "$tmp/opt/y"
"$tmp/opt/y/bin/pyheapctl" --version > "$tmp/said" 2>&1 || { cat "$tmp/said"; fail "pyheapctl after its tree was moved"; }
echo "found the library: pyheapctl under a prefix of its own, and where that was moved to"
destdir=$tmp/usr reconfigure=--reconfigure
install_at /usr
readelf -d "$tmp/usr/usr/bin/pyheapctl" | grep -e RPATH -e RUNPATH && fail "pyheapctl has an rpath under /usr"
echo "no rpath under /usr"
