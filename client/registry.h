/* SPDX-License-Identifier: MIT */
#pragma once

/* The heaps that this process has mapped, each once. See registry.c. */

#include "client/admission.h"
#include "heap/shared/session.h"

struct mapping {
	struct heap *heap;
	uint8_t heap_id[HEAP_ID_SIZE];
	uint64_t n_sessions; /* sessions of this process that use it */
	struct mapping *next;
};

/*
 * The mapping of the heap that a session was admitted to: the one that is there, or a new one. Takes over the two
 * descriptors, also when it fails. Errors as heap_attach() and process_identify(). Ended by registry_detach().
 */
int registry_attach(struct mapping **ret, const struct admission *admission);

/* One session fewer. The last one unmaps the heap. Takes NULL, returns NULL. */
struct mapping *registry_detach(struct mapping *mapping);
