/* SPDX-License-Identifier: MIT */
#pragma once

/* What memory cgroups let this process have: see cgroup.c. */

#include <stdint.h>

/* Find the memory cgroups of this process, by the files `cgroup` and `mountinfo` in that folder (/proc/self). */
void cgroup_memory_open(const char *proc);
void cgroup_memory_close(void);

/* The lowest limit of any of them, in bytes. UINT64_MAX: there is none. */
uint64_t cgroup_memory_limit(void);

/* How much may still be allocated before the kernel would kill for it. UINT64_MAX: as much as there is. */
uint64_t cgroup_memory_room(void);
