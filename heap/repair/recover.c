/* SPDX-License-Identifier: MIT */
/*
 * Sessions come, and what the dead leave is cleared up
 *
 * The daemon alone does this. Every step is one change of bounded length that it tries to begin and never waits for,
 * and finding again what was done already does nothing, so that a daemon that dies on the way is followed by one that
 * starts at the beginning.
 *
 * Died after ...                                   recovery does ...
 *   a store under the lock, before the commit       the next taker rolls the log back (lock.c)
 *   a commit                                        nothing: the change has taken place
 *   pushing to a queue or popping from it           finds out whether it took place, and where the right is (queue.c)
 *   holding or dropping without the lock            the same (count.c)
 *   making a run with slots, before it is held      frees `making`
 *   allocating a new hold table, before the switch  frees new_holds_position1
 *   dropping, before all was taken down             goes on with `dying`
 *   anything, holding objects                       drops each hold: hold and count in one change
 *   anything, owning pools and runs                 drops the holds of what is in them, makes their lists anew from the
 *                                                   headers, and lets them go: one pool, in one change
 *   making an object in its own pool                before the header's word: it is free; after: held, as above
 *   freeing one, after it stored that it holds it   nobody has a right: it is dropped, as above; where others have one,
 *   no more, also settling that under the lock      theirs it is, or it was returned by them
 *   any store to a list or number of its own        they are not looked at: the headers say it all
 *   closing, with some steps done                   the other steps
 *   a grant, before accepting it                    the arenas go back (supply_pick_granted())
 *   the daemon: admitting, before SESSION_ACTIVE    the entry is still FREE, its content is written anew
 *   admission, before the client took the session   the connection ended, so it is over (session_is_over())
 *   the daemon: reclaiming                          the entry is DEAD still, all of the above is done again
 */

#include "heap/repair/recover.h"
#include "heap/change/foreign_lock.h"
#include "heap/change/lock.h"
#include "heap/memory/run.h"
#include "heap/object/count.h"
#include "heap/object/dying.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"
#include "heap/object/making.h"
#include "heap/object/queue_recover.h"
#include "heap/object/right.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <string.h>

#define HOLDS_PER_STEP   64U   /* dropped in one change */
#define ENTRIES_PER_STEP 4096U /* looked at in one change */

/* The daemon's alone; release: what was written before is seen by whoever sees the state. */
static void state_store(struct session_entry *entry, enum session_state state)
{
	__atomic_store_n(&entry->state, (uint32_t)state, __ATOMIC_RELEASE);
}

static uint32_t offer_of(const uint64_t token[2])
{
	return ((uint32_t)token[0] & ~(uint32_t)ATTACHMENT_MASK) | ATTACHMENT_OFFERED;
}

/*
 * Relaxed, word by word: somebody who saw the session that had this entry before may be reading it still. Its lists and
 * tables are empty, as they were left, and stay untouched: the next walk with the lock held may be among them already.
 * Who keeps all sessions out at this moment keeps this one out, too.
 */
static void entry_store(struct session_entry *entry, const struct session_entry *content)
{
	const uint64_t *from = (const uint64_t *)(const void *)content;
	uint64_t *to = (uint64_t *)(void *)entry;
	size_t requests = offsetof(struct session_entry, requests) / sizeof(*to);

	for (size_t i = 0; i < sizeof(*entry) / sizeof(*to); i++)
		if (i != requests && __atomic_load_n(&to[i], __ATOMIC_RELAXED) != from[i])
			__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
	static_assert(offsetof(struct session_entry, is_fenced) / sizeof(*to) ==
			      offsetof(struct session_entry, requests) / sizeof(*to),
		"the two of that word");
	__atomic_store_n(&entry->is_fenced, content->is_fenced, __ATOMIC_RELAXED);
	__atomic_fetch_and(&entry->requests, REQUEST_BLOCK, __ATOMIC_RELAXED);
}

int session_admit(struct heap *heap, const struct session_identity *claim, uint32_t *ret_index)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		struct session_entry content = {
			.state = SESSION_FREE,
			.pid = claim->pid,
			.start_time = claim->start_time,
			.uid = claim->uid,
			.gid = claim->gid,
			.pid_namespace = pid_namespace(),
			.token = {claim->token[0], claim->token[1]},
			.attachment = offer_of(claim->token),
		};

		if (heap->sessions[i].state != SESSION_FREE)
			continue;
		if (heap->trimming) /* that was another session's */
			heap->trimming[i] = (struct trimming){0};
		strncpy(content.program, claim->program ? claim->program : "", sizeof(content.program) - 1);
		entry_store(&heap->sessions[i], &content);
		state_store(&heap->sessions[i], SESSION_ACTIVE);
		*ret_index = i;
		return 0;
	}
	return -EUSERS;
}

bool session_take(struct session *session, const uint64_t token[2])
{
	uint32_t offer = offer_of(token);

	/* relaxed: nothing is read on the strength of it */
	if (!__atomic_compare_exchange_n(&session->entry->attachment, &offer, offer | ATTACHMENT_TAKEN, false,
		    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false; /* the entry may be another session's by now */
	/* relaxed: who does not know it yet takes it for one that relies on his barrier, which is never wrong */
	__atomic_store_n(&session->entry->is_fenced, session->heap->is_fenced, __ATOMIC_RELAXED);
	return true;
}

void session_detach(struct session *session)
{
	/* release: everything was dropped before */
	__atomic_store_n(&session->entry->attachment, ATTACHMENT_CLOSED, __ATOMIC_RELEASE);
}

bool session_is_over(struct heap *heap, uint32_t index)
{
	uint32_t *attachment = &heap->sessions[index].attachment;
	uint32_t found = __atomic_load_n(attachment, __ATOMIC_ACQUIRE); /* with session_detach() */

	if ((found & ATTACHMENT_MASK) == ATTACHMENT_OFFERED &&
		__atomic_compare_exchange_n(
			attachment, &found, ATTACHMENT_CLOSED, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
		return true;
	return (found & ATTACHMENT_MASK) == ATTACHMENT_CLOSED;
}

void session_set_process(struct heap *heap, uint32_t index, int32_t pid, uint64_t start_time)
{
	struct session_entry *entry = &heap->sessions[index];

	/* Killed in between, the namespace is unknown and the pid says nothing: the session stays until it is resumed.
	 */
	__atomic_store_n(&entry->pid_namespace, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->pid, pid, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->start_time, start_time, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->pid_namespace, pid_namespace(), __ATOMIC_RELEASE);
}

void session_mark_dead(struct heap *heap, uint32_t index)
{
	state_store(&heap->sessions[index], SESSION_DEAD);
	foreign_lock_owner_died(heap, index);
}

/* ---- its own pools ----------------------------------------------------------------------------------------------- */

/* The session holds it no more. What then nobody has a right to ends: freed for the list that is made after it. */
static int let_go(struct session *session, const struct object *object)
{
	struct heap *heap = session->heap;
	struct type_info type;

	/* What nobody else ever knew nobody else comes to now. */
	if (header_rights(object->header)) {
		int r = header_lock(session, object->header, object_ref(object));

		if (r < 0)
			return r == -ESTALE ? 0 : r; /* returned just now: who did it tells of it */
	}
	if (header_own(object->word))
		heap_set(heap, &object->header->word, object->word & ~OWN_HOLDS_MAX);
	if (rights_count(header_rights(object->header)))
		return 0;
	if (type_find(heap, object->type, &type) == 0 && object_n_slots(object, &type))
		return right_end(session, object);
	heap_set(heap, &object->header->word, header_free(object->word, 0));
	if (object->header->rights)
		heap_set(heap, &object->header->rights, 0);
	return 0;
}

/*
 * A stray write, of a neighbour perhaps, has made a block larger than it can be: it is as large as it can be. What else
 * may be wrong with one header must not keep the session from being cleared up, either.
 */
static void trim_size(struct session *session, const struct pool_entry *pool, struct object_header *header, uint32_t i)
{
	struct heap *heap = session->heap;
	uint32_t size = class_shapes[pool->size_class].size;
	uint64_t word = header_word(header);

	if (header_size(word) <= size)
		return;
	if (header_rights(header) &&
		header_lock(session, header, ref_make(block_position(heap, pool, i), header_generation(word))) < 0)
		return;
	heap_set(heap, &header->word,
		header_live(header_generation(word), header_type(word), size, STATE_LIVE) | header_own(word));
}

static int abandon_blocks(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;
	struct object_header *headers = pool_headers(heap, pool);

	if (pool->size_class >= N_CLASSES)
		return -EUCLEAN;
	pool_clear_notified(pool);
	for (uint32_t i = 0; i < class_shapes[pool->size_class].n_blocks; i++) {
		/* acquire: as in pool_collect() */
		uint64_t word = __atomic_load_n(&headers[i].word, __ATOMIC_ACQUIRE);
		struct object object;
		int r = 0;

		if (header_state(word) == STATE_REMOTE_FREE) {
			heap_set(heap, &headers[i].word, header_free(word, 0));
			heap_set(heap, &headers[i].rights, 0);
		} else if (header_state(word) == STATE_LIVE) {
			trim_size(session, pool, &headers[i], i);
			r = object_locate(heap, block_position(heap, pool, i), &object);
			if (!r)
				r = let_go(session, &object);
		}
		if (r < 0)
			return r;
	}
	pool_count_blocks(heap, pool);
	return pool_disown(session, pool);
}

static int abandon_run(struct session *session, struct pool_entry *pool)
{
	struct object object;
	int r;

	if (header_state(header_word(&pool->header)) == STATE_LIVE) {
		if (pool->run_size > (uint64_t)pool->run_n_pools << POOL_SHIFT) /* as in trim_size() */
			heap_set(session->heap, &pool->run_size, (uint64_t)pool->run_n_pools << POOL_SHIFT);
		r = object_locate(
			session->heap, (uint64_t)pool_index(session->heap, pool) << (POOL_SHIFT - 3), &object);
		if (!r)
			r = let_go(session, &object);
		if (r < 0)
			return r;
	}
	return run_disown(session, pool);
}

/* The first of the pools and runs that it owns is its own no more. */
static int abandon_pool(struct session *session)
{
	struct session_entry *entry = session->entry;
	struct pool_entry *pool = pool_at(session->heap, entry->owned_pools1 - 1);

	if (!pool || pool->owner1 != session->owner1)
		return -EUCLEAN;
	if (pool->kind == POOL_BLOCKS)
		return abandon_blocks(session, pool);
	return pool->kind == POOL_RUN ? abandon_run(session, pool) : -EUCLEAN;
}

/* When all are gone: the lists of them. */
static void forget_pools(struct session *session)
{
	struct session_entry *entry = session->entry;

	for (uint32_t i = 0; i < N_CLASSES; i++)
		if (entry->usedpools1[i])
			heap_set(session->heap, &entry->usedpools1[i], 0);
	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++)
		if (entry->spare_runs1[i])
			heap_set(session->heap, &entry->spare_runs1[i], 0);
	if (entry->n_own_holds)
		heap_set(session->heap, &entry->n_own_holds, 0);
	if (entry->n_blocks_returned) { /* relaxed, not logged: for reports */
		__atomic_store_n(&session->control->figures.n_blocks_returned,
			session->control->figures.n_blocks_returned + entry->n_blocks_returned, __ATOMIC_RELAXED);
		__atomic_store_n(&entry->n_blocks_returned, 0, __ATOMIC_RELAXED);
	}
}

/* ---- its holds --------------------------------------------------------------------------------------------------- */

static int drop_hold(struct session *session, struct hold *hold)
{
	struct object object;
	uint64_t ref = hold->ref;

	heap_set(session->heap, &hold->count, 1); /* however often it held it: the object counts it once */
	hold_remove(session, hold);
	return object_find(session->heap, ref, &object) < 0 ? 0 : right_drop(session, &object);
}

/* Drop some holds from the cursor on; *ret_cursor is where to go on. 2 that was the end of the table, 0 there is more.
 */
static int drop_holds(struct session *session, uint32_t *ret_cursor)
{
	uint32_t n, n_dropped = 0, i = session->drop_cursor;
	struct hold *table = hold_table(session->heap, session->entry, &n);
	uint32_t end = n - i > ENTRIES_PER_STEP ? i + ENTRIES_PER_STEP : n;
	int r;

	while (table && i < end && n_dropped < HOLDS_PER_STEP) {
		if (table[i].ref == HOLD_EMPTY) {
			i++;
			continue;
		}
		/* What stands behind it may move up to i, so i is looked at again. */
		r = drop_hold(session, &table[i]);
		if (r < 0)
			return r;
		n_dropped++;
	}
	*ret_cursor = i;
	return !table || i >= n ? 2 : 0;
}

/* Within a change, which this ends. */
static int finish_intent(struct session *session, bool try)
{
	int r = change_end(session, intent_is_count(intent_kind(session->entry->intent.word)) ? count_finish(session)
											      : queue_finish(session));

	if (r == -EUCLEAN) { /* it would be so again */
		r = try ? change_try_begin(session) : change_begin(session);
		if (!r)
			r = change_end(session, queue_forget(session));
	}
	return r < 0 ? r : 1;
}

int session_drop_step(struct session *session, bool try)
{
	uint32_t cursor = session->drop_cursor;
	int r;

	if (session->entry->state == SESSION_ACTIVE)
		critical_stay(session);
	/* The first thing is a change even where nothing is left to do: it takes back what the dead had under way. */
	r = try ? change_try_begin(session) : change_begin(session);
	if (r < 0)
		return r;
	if (intent_kind(session->entry->intent.word) != INTENT_NONE) /* before its holds go: it holds the queue */
		return finish_intent(session, try);
	if (session->entry->making1) {
		r = change_end(session, making_drop(session));
		return r < 0 ? r : 1;
	}
	if (session->entry->dying1) {
		change_end(session, 0);
		return dying_step(session, try);
	}
	if (session->entry->owned_pools1) {
		r = change_end(session, abandon_pool(session));
		return r < 0 ? r : 1;
	}
	forget_pools(session);
	r = change_end(session, drop_holds(session, &cursor));
	if (r < 0)
		return r;
	session->drop_cursor = cursor;
	if (r == 0 || session->entry->dying1)
		return 1;
	r = hold_table_free(session, try);
	if (!r)
		session->drop_cursor = 0;
	return r;
}

bool session_is_empty(const struct session *session)
{
	const struct session_entry *entry = session->entry;

	return !entry->owned_pools1 && !entry->n_holds && !entry->holds_position1 && !entry->new_holds_position1 &&
	       !entry->dying1 && !entry->making1 && intent_kind(entry->intent.word) == INTENT_NONE;
}

int session_reclaim_step(struct session *dead)
{
	int r;

	if (dead->entry->state != SESSION_DEAD)
		return 0;
	r = session_drop_step(dead, true);
	if (!r)
		state_store(dead->entry, SESSION_FREE);
	return r;
}

int lock_recover(struct session *any)
{
	int r;

	r = change_try_begin(any);
	return r < 0 ? r : change_end(any, 0);
}
