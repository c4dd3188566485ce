#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs demo-config with a daemon of its own. usage: config.sh PYHEAPD DEMO-CONFIG
set -euo pipefail

dir=$(mktemp -d)
name=demo.config.$$
daemon=
clear_up() {
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	[ -z "$daemon" ] || wait "$daemon" || true
	rm -rf "$dir" /dev/shm/pyheap."$name".*
}
trap clear_up EXIT
export PYHEAP_SOCKET=$dir/socket
"$1" --socket "$PYHEAP_SOCKET" --name "$name" --size 64M &
daemon=$!
until [ -S "$PYHEAP_SOCKET" ]; do
	kill -0 "$daemon"
	sleep 0.05
done
"$2" 1000 20000
