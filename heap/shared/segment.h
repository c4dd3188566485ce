/* SPDX-License-Identifier: MIT */
#pragma once

/* How a process maps the segments of a heap. See segment.c. */

#include "heap/shared/layout.h"

#include <stdint.h>

/*
 * Map memory, readable and writable, that is locked nowhere: a file as MAP_SHARED, or (fd -1) private memory. NULL and
 * errno where that fails. Ended by munmap().
 */
void *segment_map(uint64_t size, int fd);

/* Map the control segment, with this process's own memory behind the lock's word. As segment_map(). */
struct control *segment_map_control(uint64_t size, int fd);

/* The daemon, which never has the lock between its calls: map the file anew in place of what is mapped there. */
void segment_map_control_again(struct control *control, uint64_t size, int fd);
