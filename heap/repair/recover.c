// SPDX-License-Identifier: MIT
/*
 * Sessions come, and dead ones are reclaimed
 *
 * Only the daemon reclaims. Each step is one change of bounded length, which it tries to begin and never waits for. A
 * step that is done again changes nothing, so a daemon that follows one that died on the way begins at the beginning.
 *
 * Died after ...                                   recovery does ...
 *   a store under the lock, before the commit       the next taker of the lock rolls the log back (shared/log.c)
 *   a commit                                        nothing: the change has taken place
 *   pushing to a queue or popping from it           finds out whether it has taken place, and who has the right
 *                                                   (queue_recover.c)
 *   waiting for a queue, woken or not               wakes another session that waits there
 *                                                   (queue_recover.c)
 *   holding or dropping without the lock            finds out whether it has taken place (count_recover.c)
 *   reading, or dropping an uncounted hold          takes back what is not good (uncounted.c)
 *   changing a place, before the old right ended    drops what is displaced
 *   making a run with slots, before it is held      frees what making1 names
 *   allocating a new hold table, before the switch  frees what new_holds_position1 names
 *   dropping, before all slots were dropped         goes on with the deferred free list (dying1)
 *   anything, holding objects                       drops each hold: the hold and the count in one change
 *   anything, owning pools and runs                 drops the own holds of their objects, makes lists and counts anew
 *                                                   from the headers, and lets them go: one pool in one change
 *   making an object in its own pool                before the header's word: it is free; after it: held, as above
 *   freeing one, after the word says that it is     if nobody has a right to it: drops it, as above; if others have,
 *   held no more, also if settling it was begun     it stays, or they have freed it
 *   any store to a list or count of its own         does not read it: the headers say it all
 *   closing, with some steps done                   does the other steps
 *   a grant, before accepting it                    gives the arenas back (supply_pick_granted())
 *   the daemon: admitting, before SESSION_ACTIVE    nothing: the entry is FREE, and is written anew
 *   admission, before the client took the session   finds it over when the connection ends (session_withdraw())
 *   the daemon: reclaiming                          does all of the above again: the entry is still DEAD
 */

#include "heap/repair/recover.h"
#include "heap/change/foreign_lock.h"
#include "heap/change/lock.h"
#include "heap/memory/run.h"
#include "heap/object/count_recover.h"
#include "heap/object/displaced.h"
#include "heap/object/dying.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"
#include "heap/object/making.h"
#include "heap/object/queue_recover.h"
#include "heap/object/readers.h"
#include "heap/object/right.h"
#include "heap/object/uncounted.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HOLDS_PER_STEP   64U   /* dropped in one change */
#define ENTRIES_PER_STEP 4096U /* examined in one change */

/* Only the daemon stores it. release: the process that sees the state sees what was written before */
static void state_store(struct session_entry *entry, enum session_state state)
{
	__atomic_store_n(&entry->state, (uint32_t)state, __ATOMIC_RELEASE);
}

static uint32_t offer_of(const uint64_t token[2])
{
	return ((uint32_t)token[0] & ~(uint32_t)ATTACHMENT_MASK) | ATTACHMENT_OFFERED;
}

/*
 * relaxed, word by word: somebody who saw the session that had this entry before may still be reading it. Its lists and
 * tables are empty and stay as they are, because a walk under the lock may be reading them. REQUEST_BLOCK stays:
 * the process that keeps all sessions out at this moment keeps this one out too.
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
		"they share a word");
	__atomic_store_n(&entry->is_fenced, content->is_fenced, __ATOMIC_RELAXED);
	__atomic_fetch_and(&entry->requests, REQUEST_BLOCK, __ATOMIC_RELAXED);
}

/* The daemon's own record of a session; it is not committed yet. */
static void truth_store(struct heap *heap, uint32_t index, const struct session_identity *identity)
{
	struct truth_session *truth = &heap->truth->sessions[index];
	uint32_t state = truth->state;

	*truth = (struct truth_session){
		.state = state,
		.pid = identity->pid,
		.start_time = identity->start_time,
		.image = identity->image,
		.pid_namespace = pid_namespace(),
		.uid = identity->uid,
		.gid = identity->gid,
		.token = {identity->token[0], identity->token[1]},
		.admission = ++heap->truth->head->n_admissions,
	};
	strncpy(truth->program, identity->program ? identity->program : "", sizeof(truth->program) - 1);
}

/* The first session that is free, from the first one on that may be; heap->n_sessions: none is. */
static uint32_t find_free(struct heap *heap)
{
	while (heap->first_free < heap->n_sessions && session_state_at(heap, heap->first_free) != SESSION_FREE)
		heap->first_free++;
	return heap->first_free;
}

int session_admit(struct heap *heap, const struct session_identity *identity, uint32_t *ret_index)
{
	uint32_t i = find_free(heap);
	struct session_entry content = {
		.state = SESSION_FREE,
		.pid = identity->pid,
		.start_time = identity->start_time,
		.uid = identity->uid,
		.gid = identity->gid,
		.max_types = identity->max_types,
		.attachment = offer_of(identity->token),
	};

	if (i == heap->n_sessions)
		return -EUSERS;
	content.pid_namespace = pid_namespace();
	if (heap->trimming) /* it was another session's */
		heap->trimming[i] = (struct trimming){0};
	strncpy(content.program, identity->program ? identity->program : "", sizeof(content.program) - 1);
	truth_store(heap, i, identity);
	entry_store(&heap->sessions[i], &content);
	/* commit: the next daemon would go on with it */
	truth_session_set_state(&heap->truth->sessions[i], SESSION_ACTIVE);
	state_store(&heap->sessions[i], SESSION_ACTIVE);
	*ret_index = i;
	return 0;
}

bool session_take(struct session *session, const uint64_t token[2])
{
	uint32_t offer = offer_of(token);

	/* relaxed: nothing else is read because of it */
	if (!__atomic_compare_exchange_n(&session->entry->attachment, &offer, offer | ATTACHMENT_TAKEN, false,
		    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return false; /* the entry may be another session's by now */
	/*
	 * relaxed: who does not know it yet takes the session for one that relies on barriers of others, which is never
	 * wrong
	 */
	__atomic_store_n(&session->entry->is_fenced, session->heap->is_fenced, __ATOMIC_RELAXED);
	return true;
}

void session_detach(struct session *session)
{
	/* release: everything was dropped before */
	__atomic_store_n(&session->entry->attachment, ATTACHMENT_CLOSED, __ATOMIC_RELEASE);
}

bool session_withdraw(struct heap *heap, uint32_t index)
{
	uint32_t *attachment = &heap->sessions[index].attachment;
	uint32_t found = __atomic_load_n(attachment, __ATOMIC_ACQUIRE); /* acquire: with session_detach() */

	if ((found & ATTACHMENT_MASK) == ATTACHMENT_OFFERED &&
		__atomic_compare_exchange_n(
			attachment, &found, ATTACHMENT_CLOSED, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
		return true;
	return (found & ATTACHMENT_MASK) == ATTACHMENT_CLOSED;
}

bool session_is_closed(const struct heap *heap, uint32_t index)
{
	/* acquire: with session_detach() */
	return (__atomic_load_n(&heap->sessions[index].attachment, __ATOMIC_ACQUIRE) & ATTACHMENT_MASK) ==
	       ATTACHMENT_CLOSED;
}

void session_read(const struct heap *heap, uint32_t index, struct session_record *ret)
{
	const struct truth_session *truth = &heap->truth->sessions[index];

	*ret = (struct session_record){
		.state = truth->state,
		.pid = truth->pid,
		.is_here = truth->pid_namespace && truth->pid_namespace == pid_namespace(),
		.start_time = truth->start_time,
		.image = truth->image,
		.uid = truth->uid,
		.gid = truth->gid,
		.token = {truth->token[0], truth->token[1]},
	};
	memcpy(ret->program, truth->program, sizeof(truth->program));
}

bool session_poll_idle(struct heap *heap, uint32_t index)
{
	return critical_poll_idle(&heap->sessions[index]);
}

/* Relaxed, all three: what is missed now is seen at the next tick. */
bool session_was_active(const struct heap *heap, uint32_t index)
{
	return __atomic_load_n(&heap->sessions[index].activity, __ATOMIC_RELAXED) != ACTIVITY_NONE;
}

bool session_has_remote_frees(const struct heap *heap, uint32_t index)
{
	return __atomic_load_n(&heap->sessions[index].remote_pools1, __ATOMIC_RELAXED) != 0;
}

uint32_t session_n_remote_frees(const struct heap *heap, uint32_t index)
{
	return __atomic_load_n(&heap->sessions[index].n_remote_frees, __ATOMIC_RELAXED);
}

bool control_is_leftover(int control_fd)
{
	uint64_t magic = 0, ended = 0;

	if (pread(control_fd, &magic, sizeof(magic), offsetof(struct control, magic)) < (ssize_t)sizeof(magic))
		return true;
	return !magic ||
	       (pread(control_fd, &ended, sizeof(ended), offsetof(struct control, ended)) == sizeof(ended) && ended);
}

void session_set_process(struct heap *heap, uint32_t index, int32_t pid, uint64_t start_time)
{
	struct session_entry *entry = &heap->sessions[index];
	struct truth_session *truth = &heap->truth->sessions[index];

	/*
	 * If the daemon is killed in between, the namespace is unknown and the pid says nothing: the session stays
	 * until it is resumed.
	 */
	__atomic_store_n(&truth->pid_namespace, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&truth->pid, pid, __ATOMIC_RELEASE);
	__atomic_store_n(&truth->start_time, start_time, __ATOMIC_RELEASE);
	__atomic_store_n(&truth->pid_namespace, pid_namespace(), __ATOMIC_RELEASE);
	__atomic_store_n(&entry->pid_namespace, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->pid, pid, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->start_time, start_time, __ATOMIC_RELEASE);
	__atomic_store_n(&entry->pid_namespace, pid_namespace(), __ATOMIC_RELEASE);
}

void session_mark_dead(struct heap *heap, uint32_t index)
{
	truth_session_set_state(&heap->truth->sessions[index], SESSION_DEAD);
	state_store(&heap->sessions[index], SESSION_DEAD);
	foreign_lock_owner_died(heap, index);
}

/* Pools */

/*
 * The session holds the object no more. If nobody else has a right to it, it is freed; abandon_blocks() makes the free
 * list afterwards.
 */
static int let_go(struct session *session, const struct object *object)
{
	struct heap *heap = session->heap;
	struct type_info type;

	/* what nobody else ever knew, nobody else can count now */
	if (header_rights(object->header)) {
		int r = header_lock(session, object->header, object_ref(object));

		if (r < 0)
			return r == -ESTALE ? 0 : r; /* remotely freed just now: the process that did it notifies */
	}
	if (header_own(object->word))
		heap_set(heap, &object->header->word, object->word & ~OWN_HOLDS_MAX);
	if (rights_count(header_rights(object->header)))
		return 0;
	if (header_rights(object->header) && readers_keep(session, object->header, object_ref(object)))
		return 0;
	if (type_find(heap, object->type, &type) == 0 && object_n_slots(object, &type))
		return right_end(session, object);
	heap_set(heap, &object->header->word, header_free(object->word, 0));
	if (header_rights(object->header))
		heap_set(heap, &object->header->rights, 0);
	return 0;
}

/*
 * A stray write, perhaps by a neighbour, made an object larger than its block: it becomes as large as the block.
 * Anything else that is wrong with one header must not keep the session from being reclaimed either.
 */
static void trim_size(struct session *session, const struct pool_entry *pool, struct object_header *header, uint32_t i)
{
	struct heap *heap = session->heap;
	uint32_t size = class_shapes[pool_class_of(pool)].size;
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

	uint32_t size_class = __atomic_load_n(&pool->size_class, __ATOMIC_RELAXED);

	if (size_class >= N_CLASSES)
		return -EUCLEAN;
	pool_clear_notified(pool);
	for (uint32_t i = 0; i < class_shapes[size_class].n_blocks; i++) {
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
		uint64_t size_max = (uint64_t)read_once(pool->run_n_pools) << POOL_SHIFT;

		if (read_once(pool->run_size) > size_max) /* as in trim_size() */
			heap_set(session->heap, &pool->run_size, size_max);
		r = object_locate(
			session->heap, (uint64_t)pool_index(session->heap, pool) << (POOL_SHIFT - 3), &object);
		if (!r)
			r = let_go(session, &object);
		if (r < 0)
			return r;
	}
	return run_disown(session, pool);
}

/* The first pool or run that the session owns becomes nobody's. */
static int abandon_pool(struct session *session)
{
	struct pool_entry *pool = pool_at(session->heap, read_once(session->entry->owned_pools1) - 1);
	uint32_t identity = pool ? read_once(pool->identity) : 0;

	if (identity >> 16 != session->owner1)
		return -EUCLEAN;
	if ((identity & 0xff) == POOL_BLOCKS)
		return abandon_blocks(session, pool);
	return (identity & 0xff) == POOL_RUN ? abandon_run(session, pool) : -EUCLEAN;
}

/* After all pools have gone: empty their lists. */
static void forget_pools(struct session *session)
{
	struct session_entry *entry = session->entry;
	uint64_t n_blocks_returned = read_once(entry->n_blocks_returned);

	for (uint32_t i = 0; i < N_CLASSES; i++)
		if (read_once(entry->usedpools1[i]))
			heap_set(session->heap, &entry->usedpools1[i], 0);
	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++)
		if (read_once(entry->spare_runs1[i]))
			heap_set(session->heap, &entry->spare_runs1[i], 0);
	if (read_once(entry->n_own_holds))
		heap_set(session->heap, &entry->n_own_holds, 0);
	if (n_blocks_returned) { /* relaxed, not logged: for reports */
		shared_add(session->control->figures.n_blocks_returned, n_blocks_returned);
		__atomic_store_n(&entry->n_blocks_returned, 0, __ATOMIC_RELAXED);
	}
}

/* Holds */

static int drop_hold(struct session *session, struct hold *hold)
{
	struct object object;
	uint64_t ref = __atomic_load_n(&hold->ref, __ATOMIC_RELAXED);
	bool is_uncounted = read_once(hold->is_uncounted);

	heap_set(session->heap, &hold->count, 1); /* however often it held the object, its count has one right for it */
	hold_remove(session, hold);
	if (object_find(session->heap, ref, &object) < 0)
		return 0;
	return is_uncounted ? right_uncounted_gone(session, &object) : right_drop(session, &object);
}

/* Drop some holds from the cursor on. *ret_cursor: where to go on. 2: the table has ended, 0: there is more. */
static int drop_holds(struct session *session, uint32_t *ret_cursor)
{
	uint32_t n, n_dropped = 0, i = session->drop_cursor;
	struct hold *table = hold_table(session->heap, session->entry, &n);
	uint32_t end;
	int r;

	if (i > n) /* the table is another one than in the step before */
		i = 0;
	end = n - i > ENTRIES_PER_STEP ? i + ENTRIES_PER_STEP : n;
	while (table && i < end && n_dropped < HOLDS_PER_STEP) {
		if (read_once(table[i].ref) == HOLD_EMPTY) {
			i++;
			continue;
		}
		/* what is behind it may move up to i, so i is examined again */
		r = drop_hold(session, &table[i]);
		if (r < 0)
			return r;
		n_dropped++;
	}
	*ret_cursor = i;
	return !table || i >= n ? 2 : 0;
}

/* Within a change, which this ends. */
static int finish_intent(struct session *session, uint32_t kind, bool try)
{
	int r;

	if (intent_is_read(kind))
		r = change_end(session, uncounted_finish(session));
	else
		r = change_end(session, intent_is_count(kind) ? count_finish(session) : queue_finish(session));

	if (r == -EUCLEAN) { /* it would fail again */
		r = try ? change_try_begin(session) : change_begin(session);
		if (!r)
			r = change_end(session, queue_forget(session));
	}
	return r < 0 ? r : 1;
}

int session_drop_step(struct session *session, bool try)
{
	const struct session_entry *entry = session->entry;
	uint32_t cursor = session->drop_cursor, kind;
	int r;

	if (session_state_at(session->heap, session->index) == SESSION_ACTIVE)
		critical_stay(session);
	/*
	 * A change even if nothing is left to do: beginning it rolls back the change that the dead session had begun.
	 */
	r = try ? change_try_begin(session) : change_begin(session);
	if (r < 0)
		return r;
	if (read_once(entry->waits_at)) /* before its holds are dropped: one of them keeps the queue */
		queue_pass_on(session);
	kind = intent_kind(read_once(entry->intent.word));
	if (kind != INTENT_NONE) /* as that */
		return finish_intent(session, kind, try);
	if (read_once(entry->displaced) || read_once(entry->displaced_name1)) {
		r = displaced_finish(session);
		if (r < 0) { /* it would fail again: lost rather than dropped twice */
			log_roll_back(session->heap);
			heap_set(session->heap, &session->entry->displaced, 0);
			heap_set(session->heap, &session->entry->displaced_name1, 0);
			r = 0;
		}
		r = change_end(session, r);
		return r < 0 ? r : 1;
	}
	if (read_once(entry->making1)) {
		r = change_end(session, making_drop(session));
		return r < 0 ? r : 1;
	}
	if (read_once(entry->dying1)) {
		change_end(session, 0);
		return dying_step(session, try);
	}
	if (read_once(entry->owned_pools1)) {
		r = change_end(session, abandon_pool(session));
		return r < 0 ? r : 1;
	}
	forget_pools(session);
	r = change_end(session, drop_holds(session, &cursor));
	if (r < 0)
		return r;
	session->drop_cursor = cursor;
	if (r == 0 || read_once(entry->dying1))
		return 1;
	r = hold_table_free(session, try);
	if (r)
		return r;
	readers_retire(session);
	session->drop_cursor = 0;
	return r;
}

bool session_is_empty(const struct session *session)
{
	const struct session_entry *entry = session->entry;

	return !entry->owned_pools1 && !entry->n_holds && !entry->holds_position1 && !entry->new_holds_position1 &&
	       !entry->dying1 && !entry->making1 && !entry->displaced && !entry->displaced_name1 &&
	       intent_kind(entry->intent.word) == INTENT_NONE;
}

int session_reclaim_step(struct session *dead)
{
	int r;

	if (session_state_at(dead->heap, dead->index) != SESSION_DEAD)
		return 0;
	r = session_drop_step(dead, true);
	if (r)
		return r;
	state_store(dead->entry, SESSION_FREE);
	/* commit: the slot may be another session's */
	truth_session_set_state(&dead->heap->truth->sessions[dead->index], SESSION_FREE);
	if (dead->index < dead->heap->first_free)
		dead->heap->first_free = dead->index;
	return 0;
}

int lock_recover(struct session *any)
{
	int r;

	r = change_try_begin(any);
	return r < 0 ? r : change_end(any, 0);
}
