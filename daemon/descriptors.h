/* SPDX-License-Identifier: MIT */
#pragma once

/* File descriptors: as many as there may be, and what happens without one. See descriptors.c. */

#include "daemon/listener.h"

#include <stdint.h>

struct descriptors {
	int spare_fd;       /* -1: it is in use, or could not be had again */
	int64_t refused_ms; /* when a connection was last refused; 0: none was */
};

/* Raise the limit as far as it goes; a line in the log where so many sessions may need more. */
void descriptors_init(struct descriptors *descriptors, uint32_t n_sessions);
void descriptors_deinit(struct descriptors *descriptors);

/*
 * The next connection, where there are descriptors for all that it needs: its own, or -EAGAIN there is none. -EUSERS:
 * there was one, and it was refused with the reason. Or another negative errno of accept(2).
 */
int descriptors_accept(struct descriptors *descriptors, const struct listener *listener);
