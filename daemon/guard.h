/* SPDX-License-Identifier: MIT */
#pragma once

/* A file that one process at a time owns, for as long as it runs: see guard.c. */

#include <stdbool.h>
#include <sys/types.h>

/*
 * Open `path` (with these open(2) flags; a file that is made gets mode 0600) and lock it. The descriptor returned is
 * the lock: closing it, and the process's end, give it up. -EADDRINUSE another process has it, or what open(2) says.
 */
int guard_take(const char *path, int flags);

/* Is what `path` leads to what is open as fd? Not so where somebody has removed or replaced the file. */
bool guard_leads_to(const char *path, int fd);
