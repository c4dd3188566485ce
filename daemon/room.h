/* SPDX-License-Identifier: MIT */
#pragma once

/* What this machine has room for: see room.c. */

#include "heap/shared/heap.h"

/* Where shared memory objects are. */
#define ROOM_FOLDER "/dev/shm"

/* Is there a place for shared memory? Says in the log what is missing: -ENOENT, -ENOTDIR. */
int room_check_folder(void);

/*
 * Give a heap its size, or check the one that was asked for. Says in the log what is wrong: -ENOSPC it is more than
 * there can be, -EINVAL --size must say it, as the folder is on a disk.
 */
int room_settle(struct heap_geometry *geometry);
