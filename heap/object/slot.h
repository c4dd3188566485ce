/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Slots of lists and structs. Each function is one change, and returns what the public one does, or HEAP_WANTS_ARENAS.
 */

#include "heap/object/object.h"

int list_set(struct session *session, uint64_t list, uint64_t i, uint64_t ref);
int list_get(struct session *session, uint64_t list, uint64_t i, uint64_t *ret);
int slot_set(struct session *session, uint64_t obj, uint64_t offset, uint64_t ref);
int slot_get(struct session *session, uint64_t obj, uint64_t offset, uint64_t *ret);
