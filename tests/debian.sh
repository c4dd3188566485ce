#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The Debian packages: built, looked at by lintian, and in a box of their own under a real systemd installed, used, tried
# by debian/tests, installed again, removed and purged.
#
# usage: tests/debian.sh      as root on Debian 12, best a throw-away one: it installs what building takes
#   KEEP=DIR   where the packages are left (default: nowhere)
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
[ "$(id -u)" = 0 ] || { echo "tests/debian.sh: as root" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "tests/debian.sh: on Debian" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# quietly COMMAND...: its output only where it fails
quietly()
{
	"$@" >"$work/log" 2>&1 || { tail -n 100 "$work/log"; echo "FAILED: $*" >&2; exit 1; }
}

echo "== installing what building takes"
quietly apt-get update
quietly apt-get install -y --no-install-recommends autopkgtest dpkg-dev fakeroot g++ lintian make
quietly apt-get build-dep -y --no-install-recommends "$top"

echo "== building"
mkdir "$work/pyheap"
(cd "$top" && git -c safe.directory="$top" ls-files -z | tar -c --null --files-from=- --file=-) | tar -x -C "$work/pyheap"
cd "$work/pyheap"
quietly dpkg-buildpackage -us -uc -b
find "$work" -maxdepth 1 -name '*.deb' -printf '   %f\n' | sort

# Tags of fewer than a warning are shown.
echo "== lintian"
lintian --allow-root --display-info --fail-on error,warning "$work"/*.changes

if [ -n "${KEEP:-}" ]; then
	mkdir -p "$KEEP"
	cp "$work"/*.deb "$work"/*.changes "$work"/*.buildinfo "$KEEP"
fi
rm -f "$work"/*-dbgsym_*.deb
status=0
bash "$top/tests/debian_box.sh" "$work" "$work/pyheap" || status=$?
[ $status = 0 ] || { echo "FAILED: the packages, installed ($status)" >&2; exit 1; }
echo "== all as it should be"
