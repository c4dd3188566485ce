/* SPDX-License-Identifier: MIT */
#pragma once

/* Daemons of builds that had another lock: see older.c. */

#include <sys/types.h>

/*
 * Take the lock on the control segment that older daemons look at, over a descriptor that no client gets. 1 it is
 * taken. 0 a process has it that is no daemon. -EADDRINUSE an older daemon has it: *ret_pid.
 */
int older_lock(int control_fd, pid_t *ret_pid);
