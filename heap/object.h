/* SPDX-License-Identifier: MIT */
#pragma once

/* Objects: refs and headers, making, holding, dropping, taking down. See object.c. */

#include "heap/own.h"

/* What a ref leads to, in this process. */
struct object {
	struct object_header *header;
	struct pool_entry *pool; /* its block's, or its run's first */
	uint8_t *data;
	uint64_t size;
	uint64_t position;
	uint64_t word; /* of its header, as it was when it was found */
	uint32_t type;
	bool is_run;
};

/*
 * With the lock held: what lies at a position, whatever its header says. -ESTALE nothing can: no pool in use is there,
 * or no block starts there. -EUCLEAN its sizes are damaged.
 */
int object_locate(struct heap *heap, uint64_t position, struct object *ret);

/*
 * With the lock held: find the LIVE object that any 64-bit number names, in constant time. -EINVAL it can name none
 * (position outside the heap, generation 0, one of the heap's own records), -ESTALE it names none now.
 */
int object_find(struct heap *heap, uint64_t ref, struct object *ret);

/* As object_find(), but whether anybody has a right to it by its counts is not looked at. */
int object_match(struct heap *heap, uint64_t ref, struct object *ret);

/* As object_find(), but takes the lock unless the session holds the object: then nothing can change under it. */
int object_look(struct session *session, uint64_t ref, struct object *ret);

/* What object_look() found, where the session holds it, is found sooner from now on: see recent.h. */
void object_remember(struct session *session, uint64_t ref, const struct object *object);

/* How many slots an object has, and where slot i lies. */
static inline uint64_t object_n_slots(const struct object *object, const struct type_info *type)
{
	return type_n_slots(type, object->size);
}
static inline uint64_t *object_slot(const struct object *object, const struct type_info *type, uint64_t i)
{
	return (uint64_t *)(void *)(object->data + type_slot_offset(type, i));
}

/* Each of these is one change, and takes down what it freed. Returns as the public functions, or HEAP_WANTS_ARENAS. */
int object_new(struct session *session, uint32_t type, size_t size, uint64_t *ret);
int queue_new(struct session *session, size_t n, uint64_t *ret);
int object_incref(struct session *session, uint64_t ref);
int object_decref(struct session *session, uint64_t ref);
int64_t object_refcount(struct session *session, uint64_t ref);

/*
 * Within a change: somebody who is not its owner has one right fewer (`what` is never an own record). When it was the
 * last, the object is freed, or goes on session's dying list.
 */
int object_drop(struct session *session, const struct object *what);
/* Within a change: one right more. -EOVERFLOW; -ESTALE its owner let go of it meanwhile. */
int object_retain(struct session *session, const struct object *what);

/*
 * Within a change: the session holds it once more, by the header of its own object or by its hold table, where
 * hold_reserve() has made room. Errors as object_retain().
 */
int object_hold(struct session *session, uint64_t ref, const struct object *what);
/* Within a change: what the session holds once less, or not at all any more, whose right goes to somebody else (a
 * queue). -EPERM it does not hold it. */
int object_pass_on(struct session *session, uint64_t ref, const struct object *what);

/* Does the session hold it? No lock is needed. */
bool object_is_held(const struct session *session, uint64_t ref);

/* Within a change: nobody has a right to it: free it, or put it on session's dying list. */
int object_end(struct session *session, const struct object *what);

/* Within a change: free what the session was making and did not finish. */
int making_drop(struct session *session);

/*
 * One change: take down a bounded part of what is dying on this session's list. 1 there may be more, 0 nothing is left;
 * -EBUSY where `try` and the lock is taken.
 */
int dying_step(struct session *session, bool try);

/* All of it. Returns `result`, so that it ends a function that dropped something. */
int take_down(struct session *session, int result);
