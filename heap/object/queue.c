// SPDX-License-Identifier: MIT
/*
 * Queues of refs: an object is handed over without the lock, and held at every moment
 *
 * A queue is a ring of cells. Each push and each pop is one compare-and-swap of a whole cell, its ref and its stamp
 * (cell.h). The stamp says which position, of all that were ever pushed, is in the cell or is waited for, so a session
 * that read the cell before another changed it fails. The first to come to a cell has it, and nobody waits for a
 * session that was stopped. `tail` and `head` are hints where a search begins; they may lag behind, because the cells
 * say how far ahead they are.
 *
 * What is handed over is a right that is counted already, so the object's count does not change. The right goes from
 * the sender's hold table to its intent, from there to the cell, from there to the receiver's intent, and from there to
 * the receiver's table: at every moment exactly one of these has it. If the sender holds the object as the owner of its
 * pool, it gives a right away first: one more in rights_given, which nobody else writes, then one less in the word.
 *
 * The intent is in the session's entry before the first of these steps and ends after the last. If the session dies
 * in between, recovery (queue_recover.c) must know whether the compare-and-swap took place. The cell says so, by its
 * stamp and by who filled or emptied it last, until it has been changed twice more. A process that is about to make
 * that second change, and is another session, looks whether the intent is still there, and if so notes in the entry of
 * its session (`done`) that it has taken place. Here the handover of CXL-SHM (SOSP 2023) fails: its evidence is gone
 * once the receiver has changed the count, and the change is made twice. tests/model/queue.pml tries all orders and
 * deaths.
 *
 * These changes are made within critical sections, so the process that checks or repairs the heap finds each right in
 * one place. Whatever they cannot do is done under the lock (queue_locked.c). Waiting is in queue_wait.c.
 */

#include "heap/object/queue.h"
#include "heap/change/intent.h"
#include "heap/object/count.h"
#include "heap/object/own.h"
#include "heap/object/queue_locked.h"
#include "heap/object/queue_wait.h"

#include <errno.h>
#include <time.h>

#define PASS_OVER_MAX 1024 /* spoilt cells that one call passes over */
#define STREAM_MIN    8U   /* more successes in a row than a message and its answer */
#define STREAM_PAUSES 16   /* some 40 to 100 cycles each */

#define QUEUE_LIKELY(x)   __builtin_expect(!!(x), 1)
#define QUEUE_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define QUEUE_RARE        __attribute__((noinline))

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif

/* Finding the queue */

int queue_find(struct heap *heap, uint64_t ref, struct object *ret_object, struct cell_ring *ret)
{
	int r;

	r = object_find(heap, ref, ret_object);
	if (r < 0)
		return r;
	if (ret_object->type != TYPE_QUEUE)
		return -EINVAL;
	ret->queue = (struct queue *)(void *)ret_object->data;
	ret->n = __atomic_load_n(&ret->queue->n, __ATOMIC_RELAXED); /* once: what is checked is what is used */
	return ret_object->size >= sizeof(struct queue) && ret->n && !((uintptr_t)ret->queue % sizeof(struct cell)) &&
			       ret->n <= (ret_object->size - sizeof(struct queue)) / sizeof(struct cell)
		       ? 0
		       : -EUCLEAN;
}

/* Most often the session holds the queue and has it in the cache. */
static inline bool find_cached(const struct session *session, uint64_t ref, struct cell_ring *ret)
{
	const struct cached_object *cached = cache_object(session->cache, ref);
	uint64_t word;

	if (!QUEUE_LIKELY(cached->ref == ref && !cached->pool && cached->queue))
		return false;
	/* relaxed: it is alive as long as it is held, unless the heap was damaged and repaired */
	word = __atomic_load_n(&cached->held_header->word, __ATOMIC_RELAXED);
	*ret = (struct cell_ring){cached->queue, cached->n_cells};
	/* n is compared: queue_find() would find out a stray write too */
	return QUEUE_LIKELY(header_is(word, ref_generation(ref), STATE_LIVE) && cached->queue->n == cached->n_cells);
}

/* A queue that is not in the cache. QUEUE_NOT: the session does not hold it. is_held: it is known to hold it. */
static QUEUE_RARE int find_uncached(struct session *session, uint64_t ref, bool is_held, struct cell_ring *ret)
{
	struct object object;
	int r;

	if (!is_held && !object_is_held_unlocked(session, ref))
		return QUEUE_NOT;
	r = object_lookup(session, ref, &object);
	if (!r)
		r = queue_find(session->heap, ref, &object, ret);
	if (r < 0)
		return r;
	object_remember(session, ref, &object);
	if (cache_object(session->cache, ref)->ref == ref)
		cache_object(session->cache, ref)->n_cells = ret->n; /* as it was when it was found good */
	return 0;
}

/* Evidence of the dead */

/* Before the cell is changed: that wipes out the evidence of the same change one lap ago, so it is noted first. */
static inline int help_filler(
	struct session *session, uint64_t queue, const struct cell_ring *ring, const struct cell_value *seen)
{
	uint32_t index = stamp_filled_by(seen->stamp);

	return QUEUE_LIKELY(index == session->index)
		       ? 0
		       : intent_note_done_of_other(session, index, intent_is_push, queue, seen->position - ring->n);
}

static inline int help_emptier(
	struct session *session, uint64_t queue, const struct cell_ring *ring, const struct cell_value *seen)
{
	uint32_t index = stamp_emptied_by(seen->stamp);

	return QUEUE_LIKELY(index == session->index)
		       ? 0
		       : intent_note_done_of_other(session, index, intent_is_pop, queue, seen->position - ring->n);
}

/* Prefetch */

/*
 * Cells and headers come from the other side's processor cache, which takes longer than all else. So they are fetched
 * ahead: the cell eight positions ahead, and the header of what is in the cell four ahead, if the other side is known
 * to be done with them. Nearer than that, a fetch would take the lines out of its hands.
 */
#define AHEAD_CELL   8
#define AHEAD_HEADER 4
#define AHEAD_READ   16U /* once in so many positions the other side's hint is read, which is such a fetch itself */

static inline struct cell *cell_ahead(const struct cell_ring *ring, const struct cell_value *seen, uint64_t n)
{
	uint64_t i = (uint64_t)(seen->cell - ring->queue->cells) + n;

	return &ring->queue->cells[i < ring->n ? i : i - ring->n];
}

/* Is the other side, whose hint is *hint, at least `lead` positions ahead? */
static inline bool is_far(
	struct other_side *side, const struct cell_ring *ring, const uint64_t *hint, uint64_t position, int64_t lead)
{
	/* relaxed: a hint of a hint */
	if (QUEUE_UNLIKELY(side->queue != ring->queue || position % AHEAD_READ == 0)) {
		side->queue = ring->queue;
		side->position = __atomic_load_n(hint, __ATOMIC_RELAXED);
	}
	return (int64_t)(side->position - position) >= lead;
}

/* After a push: the cells ahead were emptied long ago. */
static inline void fetch_for_push(struct session *session, const struct cell_ring *ring, const struct cell_value *seen)
{
	if (ring->n > AHEAD_CELL &&
		is_far(&session->pushing, ring, &ring->queue->head, seen->position, AHEAD_CELL + 1 - (int64_t)ring->n))
		__builtin_prefetch(cell_ahead(ring, seen, AHEAD_CELL), 1);
}

/* After a pop: the cells ahead were filled long ago, and their objects made. */
static inline void fetch_for_pop(struct session *session, const struct cell_ring *ring, const struct cell_value *seen)
{
	const void *header;
	uint64_t off;

	if (ring->n <= AHEAD_CELL ||
		!is_far(&session->popping, ring, &ring->queue->tail, seen->position, AHEAD_CELL + 1))
		return;
	__builtin_prefetch(cell_ahead(ring, seen, AHEAD_CELL), 1);
	off = ref_position(__atomic_load_n(&cell_ahead(ring, seen, AHEAD_HEADER)->ref, __ATOMIC_RELAXED)) << 3;
	header =
		off < session->heap->heap_size ? own_guess_header(session, off) : NULL; /* a stray write may be there */
	if (QUEUE_LIKELY(header))
		__builtin_prefetch(header, 1);
}

/* Push */

/* Where a push without the lock takes the right from. */
struct sender {
	struct hold *hold; /* entry of the session's table; without a ref: the free one, should the right come back */
	struct object_header *header; /* not NULL: of an object of its own, held by the word and not by the table */
};

/* The header of the session's own object, if it holds that by the word. Most often the object is in the cache. */
static inline struct object_header *own_header(struct session *session, uint64_t ref)
{
	const struct cached_object *cached = cache_object(session->cache, ref);
	struct own_object own;

	/* relaxed: as in own_hold() */
	if (QUEUE_LIKELY(cached->ref == ref && cached->header &&
			 __atomic_load_n(&cached->header->word, __ATOMIC_RELAXED) - cached->word < OWN_HOLDS_MAX))
		return cached->header;
	return own_lookup(session, ref, &own) && header_own(own.word) ? own.header : NULL;
}

/* 0. QUEUE_NOT: push under the lock. *ret_is_held: the session holds the object. */
static inline int find_sender(struct session *session, uint64_t ref, struct sender *ret, bool *ret_is_held)
{
	*ret_is_held = false;
	ret->header = NULL;
	ret->hold = hold_probe(session, ref);
	if (QUEUE_UNLIKELY(!ret->hold))
		return QUEUE_NOT;
	if (ret->hold->ref != HOLD_EMPTY) {
		*ret_is_held = true;
		return QUEUE_LIKELY(ret->hold->how == HOLD_ONCE && hold_stands_last(session, ret->hold)) ? 0
													 : QUEUE_NOT;
	}
	ret->header = own_header(session, ref);
	*ret_is_held = ret->header;
	/* relaxed: others drop their rights at any time. The table must have room, should the right come back. */
	return QUEUE_LIKELY(ret->header && hold_has_room(session) && ret->header->rights_given < RIGHTS_GIVEN_MAX &&
			    rights_count(__atomic_load_n(&ret->header->rights, __ATOMIC_RELAXED)) < RIGHTS_MAX)
		       ? 0
		       : QUEUE_NOT;
}

/* Within the critical section: the sender gives the right up. True: it is one own hold less. */
static inline bool take_from(const struct session *session, const struct sender *sender, uint64_t ref)
{
	uint16_t given;
	uint64_t word;

	if (!sender->header) {
		intent_note(session, session->entry->n_holds);
		hold_take_fast(session, session->entry, sender->hold);
		return false;
	}
	given = sender->header->rights_given;
	intent_note(session, given);
	/*
	 * relaxed, then release: who reads the word of an object that was let go of finds the right that was given away
	 */
	__atomic_store_n(&sender->header->rights_given, (uint16_t)(given + 1), __ATOMIC_RELAXED);
	word = __atomic_load_n(&sender->header->word, __ATOMIC_RELAXED);
	__atomic_store_n(&sender->header->word, word - 1, __ATOMIC_RELEASE);
	if (header_own(word) != 1)
		return false;
	cache_forget(session->cache, ref);
	return true;
}

/*
 * Within the critical section, after somebody else came first: the right goes to the sender's table. It does not go
 * back to the word: a right given away stays given, so that who reads the word and then the rights misses neither.
 */
static QUEUE_RARE void give_back_to(const struct session *session, const struct sender *sender, uint64_t queue,
	const struct cell_value *seen, uint64_t ref)
{
	if (sender->header) {
		intent_begin(session, INTENT_RIGHT, INTENT_RIGHT, queue, seen->position, ref);
		intent_note(session, session->entry->n_holds + 1);
		intent_store(session, intent_number(session->entry->intent.word), INTENT_PUSH);
	}
	hold_put_fast(session->entry, sender->hold, ref);
}

/* One attempt without the lock. */
static inline int push_fast(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t ref)
{
	struct sender sender;
	struct cell_value seen;
	bool is_held, is_let_go = false;
	int fast, r;

	/* A queue that is pushed into itself could be gone before anybody is woken. */
	if (QUEUE_UNLIKELY(session->has_lock || ref == queue_ref))
		return QUEUE_NOT;
	fast = find_sender(session, ref, &sender, &is_held);
	if (QUEUE_UNLIKELY(!is_held))
		return QUEUE_NOT; /* the lock finds out why */
	r = cell_find_free(ring, &seen);
	if (QUEUE_UNLIKELY(!r && fast))
		return fast;
	if (!r)
		r = help_filler(session, queue_ref, ring, &seen);
	if (QUEUE_UNLIKELY(r))
		return r;
	intent_begin(
		session, INTENT_NONE, sender.header ? INTENT_PUSH_OWN : INTENT_PUSH, queue_ref, seen.position, ref);
	if (QUEUE_UNLIKELY(!critical_enter(session))) {
		intent_end(session);
		r = session_serve_requests(session);
		return r < 0 ? r : QUEUE_AGAIN;
	}
	r = critical_queues_are_paused(session) ? QUEUE_NOT : QUEUE_AGAIN;
	if (QUEUE_LIKELY(r == QUEUE_AGAIN)) {
		is_let_go = take_from(session, &sender, ref);
		if (QUEUE_LIKELY(cell_fill(session, &seen, ref))) {
			fetch_for_push(session, ring, &seen);
			queue_pushed(ring, &seen);
			r = 0;
		} else {
			give_back_to(session, &sender, queue_ref, &seen, ref);
		}
	}
	intent_end(session);
	critical_leave(session, is_let_go ? -1 : 0);
	return r;
}

/* Pop */

/* One attempt without the lock. A stray write may have put into the cell what names nothing: it is passed over. */
static inline int pop_fast(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t *ret)
{
	struct object object;
	struct hold *hold;
	struct cell_value seen;
	int r;

	if (QUEUE_UNLIKELY(session->has_lock))
		return QUEUE_NOT;
	r = cell_find_filled(ring, &seen);
	if (!r)
		r = help_emptier(session, queue_ref, ring, &seen);
	if (QUEUE_UNLIKELY(r))
		return r;
	hold = hold_probe(session, seen.ref);
	if (QUEUE_UNLIKELY(!hold || hold->ref != HOLD_EMPTY))
		return QUEUE_NOT;
	intent_begin(session, INTENT_NONE, INTENT_POP, queue_ref, seen.position, seen.ref);
	if (QUEUE_UNLIKELY(!critical_enter(session))) {
		intent_end(session);
		r = session_serve_requests(session);
		return r < 0 ? r : QUEUE_AGAIN;
	}
	r = critical_queues_are_paused(session) ? QUEUE_NOT : QUEUE_AGAIN;
	intent_note(session, session->entry->n_holds);
	if (QUEUE_LIKELY(r == QUEUE_AGAIN && cell_empty(session, ring, &seen))) {
		fetch_for_pop(session, ring, &seen);
		r = QUEUE_SPOILT;
		if (QUEUE_LIKELY(object_find_fast(session->heap, seen.ref, &object) == 0)) {
			hold_put_fast(session->entry, hold, seen.ref);
			own_note_class(session, object.pool);
			queue_note_received(session, seen.ref, &object);
			*ret = seen.ref;
			r = 0;
		}
		queue_popped(ring, &seen);
	}
	intent_end(session);
	critical_leave(session, 0);
	return r;
}

/*
 * A side that is faster than the other, and tries again at once, takes the cache line of the next cell away each time
 * that the other wants to change it, and both get slow. So after several successes in a row the first failure is
 * followed by a pause, long enough for several changes of the other side, and by one more attempt. A call that waits
 * for an answer never pauses. True: there was a pause.
 */
static inline bool pause_for_other_side(struct other_side *side, int r)
{
	uint32_t n_in_a_row;

	if (QUEUE_LIKELY(r != -EAGAIN)) {
		side->n_in_a_row++;
		return false;
	}
	n_in_a_row = side->n_in_a_row;
	side->n_in_a_row = 0;
	if (n_in_a_row < STREAM_MIN)
		return false;
	for (int i = 0; i < STREAM_PAUSES; i++)
		PAUSE();
	return true;
}

/* Calls */

static inline int push(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t ref)
{
	int r;

	do {
		r = push_fast(session, queue_ref, ring, ref);
		if (QUEUE_UNLIKELY(r == QUEUE_NOT))
			r = queue_push_locked(session, queue_ref, ring, ref);
	} while (QUEUE_UNLIKELY(r == QUEUE_AGAIN || pause_for_other_side(&session->pushing, r)));
	return r;
}

static inline int pop(struct session *session, uint64_t queue_ref, const struct cell_ring *ring, uint64_t *ret)
{
	int r;

	for (int n_spoilt = 0; n_spoilt < PASS_OVER_MAX; n_spoilt += r == QUEUE_SPOILT) {
		r = hold_reserve(session);
		if (QUEUE_UNLIKELY(r))
			return r;
		r = pop_fast(session, queue_ref, ring, ret);
		if (QUEUE_UNLIKELY(r == QUEUE_NOT))
			r = queue_pop_locked(session, queue_ref, ring, ret);
		if (QUEUE_LIKELY(r != QUEUE_AGAIN && r != QUEUE_SPOILT && !pause_for_other_side(&session->popping, r)))
			return r;
	}
	return -EUCLEAN;
}

/*
 * Push (ref_to_push is not 0) or pop. is_held: the session is known to hold the queue. `wait`: it will wait after a
 * failure.
 */
static inline int attempt(struct session *session, uint64_t queue_ref, uint64_t ref_to_push, uint64_t *ret,
	bool is_held, struct queue_wait *wait)
{
	struct cell_ring ring;
	int r;

	if (QUEUE_UNLIKELY(!find_cached(session, queue_ref, &ring))) {
		r = find_uncached(session, queue_ref, is_held, &ring);
		if (r)
			return r;
	}
	if (wait)
		queue_announce(ring.queue, ref_to_push != 0, wait);
	return ref_to_push ? push(session, queue_ref, &ring, ref_to_push) : pop(session, queue_ref, &ring, ret);
}

/* The session holds the queue meanwhile, so that the futex stays where it is. `wait`: NULL if it is not to wait. */
static int attempt_until(
	struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, struct queue_wait *wait)
{
	int r = object_incref(session, queue);

	if (r)
		return r;
	do {
		r = attempt(session, queue, ref_to_push, ret, true, wait);
		if (r != -EAGAIN || !wait) {
			if (r && wait && wait->has_slept) /* what it was woken for is somebody else's to do */
				queue_wake_next(wait->futex);
			break;
		}
		r = session->has_lock ? -EDEADLK : queue_wait_for(session->heap, wait);
	} while (!r);
	(void)object_decref(session, queue);
	return r;
}

static int attempt_and_wait(
	struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, int timeout_ms)
{
	struct queue_wait wait;
	int r;

	if (!timeout_ms)
		return attempt_until(session, queue, ref_to_push, ret, NULL);
	queue_wait_begin(session, queue, &wait, timeout_ms);
	r = attempt_until(session, queue, ref_to_push, ret, &wait);
	queue_wait_end(session, &wait);
	return r;
}

static inline int transfer(struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, int timeout_ms)
{
	int r = attempt(session, queue, ref_to_push, ret, false, NULL);

	if (QUEUE_LIKELY(r != QUEUE_NOT && (r != -EAGAIN || !timeout_ms)))
		return r;
	return attempt_and_wait(session, queue, ref_to_push, ret, timeout_ms);
}

int queue_push(struct session *session, uint64_t queue, uint64_t ref, int timeout_ms)
{
	return ref ? transfer(session, queue, ref, NULL, timeout_ms) : -EINVAL;
}

int queue_pop(struct session *session, uint64_t queue, uint64_t *ret, int timeout_ms)
{
	return transfer(session, queue, 0, ret, timeout_ms);
}
