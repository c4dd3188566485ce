/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Names of objects. Each function is one change, or a few, and returns what the public one does, or HEAP_WANTS_ARENAS.
 */

#include "heap/object/object.h"

#define NAME_MAX_LENGTH 255U /* bytes without the NUL */

int name_set(struct session *session, const char *bytes, uint64_t ref);
int name_get(struct session *session, const char *bytes, uint64_t *ret);
int name_del(struct session *session, const char *bytes);
int name_next(struct session *session, uint64_t *cursor, char name[NAME_MAX_LENGTH + 1], uint64_t *ret);
