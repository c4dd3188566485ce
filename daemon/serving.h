/* SPDX-License-Identifier: MIT */
#pragma once

/* The parts that serve one heap: see serving.c. */

#include "daemon/admit.h"
#include "daemon/descriptors.h"
#include "daemon/lock_watch.h"
#include "daemon/options.h"

/* What there is before a heap, and outlives it; and whom to notify. */
struct serving_around {
	const struct options *options;
	struct event_base *base;
	struct work *work;
	struct users *users;
	struct connections *connections;
	void (*started)(void *owner); /* a session came */
	void (*reset)(void *owner);   /* the heap is to be emptied */
	void *owner;
};

/* All zero: there is no heap. */
struct serving {
	struct serving_around around;
	struct heap *heap;   /* owned */
	struct session self; /* the daemon's view of the heap: takes the lock as SESSION_DAEMON */
	struct descriptors descriptors;
	struct trim trim;
	struct dsessions sessions;
	struct admission admission; /* owner of the connections: it stays where it is from heap to heap */
	struct lock_watch lock_watch;
};

/* Serve a heap, which it takes over. -ENOMEM: serving_end() all the same. */
int serving_begin(struct serving *serving, struct heap *heap, const struct serving_around *around);

/* With each tick. True: another one has to come. */
bool serving_tick(struct serving *serving);

/* The heap is over, for its sessions and for the next daemon. */
void serving_end_heap(struct serving *serving);

/* End the connections that have a session, with a Goodbye. Others stay. */
void serving_say_goodbye(struct serving *serving);

/* Forget the sessions, and unmap the heap. Its files stay. Nothing where there is none. */
void serving_end(struct serving *serving);
