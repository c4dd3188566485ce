/* SPDX-License-Identifier: MIT */
#pragma once

/* The heaps that this process has attached, each once: see registry.c. */

#include "heap/shared/session.h"

#define HEAP_ID_SIZE 16U

struct mapping {
	struct heap *heap;
	uint8_t heap_id[HEAP_ID_SIZE];
	uint64_t n_sessions; /* of this process that use it */
	struct mapping *next;
};

/*
 * Use the heap `heap_id`: the mapping that is there, or one made of the two descriptors, which are taken over in any
 * case. Errors as heap_attach(), and those of process_identify(), which it calls. Ended by registry_detach().
 */
int registry_attach(struct mapping **ret, const uint8_t heap_id[HEAP_ID_SIZE], int control_fd, int heap_fd);

/* One session fewer; the last one unmaps the heap. Takes NULL, returns NULL. */
struct mapping *registry_detach(struct mapping *mapping);
