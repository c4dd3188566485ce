#!/bin/bash
# SPDX-License-Identifier: MIT
# The README's example as it is printed there: compiled, and run by two processes.
set -euo pipefail
build=$(cd "$1" && pwd -P)
source=$(cd "$2" && pwd -P)
work=$(mktemp -d)
daemon=

cleanup()
{
	[ -z "$daemon" ] || { kill "$daemon"; wait "$daemon"; } 2>/dev/null || :
	rm -rf "$work" "/dev/shm/pyheap.readme-$$."* # the heap as well, where the daemon crashed
}
trap cleanup EXIT

fail()
{
	echo "FAILED: $*" >&2
	exit 1
}

# The first block of C, and its lines that are more than a brace.
awk '/^```c$/ { on = 1; next } /^```$/ { if (on) exit } on' "$source/README.md" >"$work/share.c"
lines=$(grep -c '[a-z]' "$work/share.c") || fail "no C in README.md"
[ "$lines" -le 30 ] || fail "the example has grown to $lines lines"

# The library and the header as they are after an installation; sanitizers, where the build has them.
sanitize=$(sed -n '/-fsanitize=/ { s/.*-fsanitize=\([a-z,]*\).*/-fsanitize=\1/p; q }' "$build/compile_commands.json")
# shellcheck disable=SC2086
${CC:-cc} -Wall -Wextra -Werror $sanitize -I"$source/include" "$work/share.c" -L"$build/client" -lpyheap \
	-Wl,-rpath,"$build/client" -o "$work/share"

export PYHEAP_SOCKET=$work/pyheap.sock
"$build/daemon/pyheapd" --socket "$PYHEAP_SOCKET" --name "readme-$$" --size 64M 2>"$work/log" &
daemon=$!
for ((i = 0; i < 3000; i++)); do
	[ ! -S "$PYHEAP_SOCKET" ] || break
	kill -0 "$daemon" || { cat "$work/log"; fail "pyheapd did not start"; }
	sleep 0.1
done

! "$work/share" 2>"$work/error" || fail "something is found in an empty heap"
[ -s "$work/error" ] || fail "no word about it"
"$work/share" "hello from another process" || fail "making the object"
[ "$("$work/share")" = "hello from another process" ] || fail "reading the object"
echo "ok: $lines lines"
