// SPDX-License-Identifier: MIT
/*
 * A heap that is full
 *
 * A session that finds no memory asks the daemon, which takes a round trip over the socket. Where the heap has no hole
 * left the answer is the same each time, so the daemon says it for all sessions: the control segment has the
 * number of the moment at which it found no run of that many holes, and nothing that could be returned. `room_number`
 * moves whenever the daemon is about to make room. While both are equal only sessions can make room, and what they free
 * is on the heap's lists (supply_n_free()). So a session that finds both equal, and those lists empty, need not ask.
 *
 * A daemon that dies leaves both as they are; the next one moves room_number first. A full /dev/shm is not said here,
 * as others make room there.
 */

#include "heap/change/full.h"

void full_ends(struct heap *heap)
{
	__atomic_fetch_add(&heap->control->room_number, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* before what is taken from the lists: with supply_is_full() */
}

void full_begins(struct heap *heap, uint32_t n)
{
	struct control *c = heap->control;
	uint64_t number = read_once(c->room_number);

	if (heap->full_number == number && heap->full_length <= n)
		return;
	heap->full_number = number;
	heap->full_length = n;
	/* relaxed, then release: a session that reads the number finds this length, or a shorter one that is as true */
	__atomic_store_n(&c->full_length, n, __ATOMIC_RELAXED);
	__atomic_store_n(&c->full_number, number, __ATOMIC_RELEASE);
}

bool full_is_known(const struct heap *heap, uint32_t n)
{
	const struct control *c = heap->control;
	uint64_t number = __atomic_load_n(&c->full_number, __ATOMIC_ACQUIRE); /* acquire: with full_begins() */

	/* relaxed, then acquire: the number is read last, so room that came before is seen */
	return n >= __atomic_load_n(&c->full_length, __ATOMIC_RELAXED) &&
	       number == __atomic_load_n(&c->room_number, __ATOMIC_ACQUIRE);
}
