#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Formats the C sources by .clang-format, or says which are not formatted.
#
# usage: tests/format.sh [--check]
#   Exit status with --check: 0 all are, 1 some are not, 77 (skipped) there is no clang-format 14 here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Versions differ in what they make of the same file; this one is Debian 12's.
format=
for name in clang-format-14 clang-format; do
	if command -v $name >/dev/null && [[ $($name --version) == *"version 14."* ]]; then
		format=$name
		break
	fi
done
[ -n "$format" ] || { echo "skipped: no clang-format 14"; exit 77; }

mapfile -t files < <(find client daemon heap include proto tests -name '*.[ch]' ! -path '*/build*' | sort)
[ ${#files[@]} -gt 100 ] || { echo "only ${#files[@]} files were found" >&2; exit 1; }
if [ "${1:-}" = --check ]; then
	$format --dry-run -Werror "${files[@]}"
	echo "${#files[@]} files are formatted"
else
	$format -i "${files[@]}"
fi
