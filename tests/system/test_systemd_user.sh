#!/bin/bash
# SPDX-License-Identifier: MIT
# The user's units under a real `systemd --user`: started by the socket, ready, killed, stopped, restarted.
set -euo pipefail
. "$(dirname "$0")/systemd_box.sh"
. "$(dirname "$0")/systemd_service.sh"
box_enter SHELL "$@"

service_ctl()
{
	systemctl --user "$@"
}

manager_answers()
{
	case $(systemctl --user is-system-running) in running | degraded) ;; *) return 1 ;; esac
}

export XDG_RUNTIME_DIR=/run/user/0
export PYHEAP_SOCKET=$XDG_RUNTIME_DIR/pyheap.sock # what who is not root looks at first
service_drop_in=/root/.config/systemd/user/pyheapd.service.d
service_unit=/etc/systemd/user/pyheapd.service
mkdir -p "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"

# Nothing but what the test starts: no units of the machine's other software.
mkdir -p /root/.config/systemd/user
printf '[Unit]\nDescription=Nothing\n' >/root/.config/systemd/user/box.target
/lib/systemd/systemd --user --unit=box.target --log-target=console </dev/null >>/box/log 2>&1 &
until_true "the user's manager" manager_answers

check_service
[ "$(find /dev/shm -name 'pyheap.user-0.heap' | wc -l)" = 1 ] || fail "the user's heap has another name: $(ls /dev/shm)"
systemctl --user stop pyheapd.socket pyheapd.service
[ ! -e "$PYHEAP_SOCKET" ] || fail "the socket was left behind"
pyheapd --name user-0 --remove || fail "--remove"
[ -z "$(find /dev/shm -name 'pyheap.*')" ] || fail "left behind: $(ls /dev/shm)"
echo "ok: removed"
