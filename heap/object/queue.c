/* SPDX-License-Identifier: MIT */
/*
 * Queues of refs: handing an object over with no moment unheld, and without the lock
 *
 * A queue is a ring of cells. Each push and each pop is one compare-and-swap of a whole cell, its ref and its stamp:
 * the stamp says which position of all that was ever pushed is in the cell or is waited for, so whoever looked at the
 * cell earlier than somebody else's change fails. Who comes first to a cell has it; nobody waits for one that was
 * stopped. `tail` and `head` only say where to begin to look: they may lag behind, as the cells tell how far
 * (cell_find_free(), cell_find_filled()).
 *
 * What is handed over is a right that is counted already: the object's count does not change. The sender's hold goes
 * out of its table into its intent, from there into the cell, from there into the receiver's intent, and into its
 * table: at every moment exactly one of them has it. What the sender holds as the owner of its pool it gives away
 * first: one more in rights_given, which nobody else writes, and one less in the word.
 *
 * The intent stands in the session's entry before the first of these steps, and is taken away after the last. When the
 * session dies on the way whoever clears it up (queue_finish()) has to know whether the compare-and-swap took cell:
 * the cell says so by its stamp and by who filled or emptied it last, and that stays until the cell has been changed
 * twice more. Whoever is about to make that second change, and is somebody else, looks whether the intent is still
 * there, and if so notes in the session's entry (`done`) that it has taken cell. This is where the handover of CXL-SHM
 * (SOSP 2023) fails: what tells whether it took cell is gone there once the receiver has changed the count, and it is
 * done twice. tests/model/queue.pml goes through all orders and deaths.
 *
 * These quick ways are inside the gate, as calls to one's own pools: so who checks or repairs the heap finds each right
 * in one cell. What they do not know goes under the lock, in changes that stand on the same intent: a hold table that
 * has to be put in order, what is held several times, or is held already by who receives it, and where another session
 * keeps the lock between its calls, so that nobody may change a queue.
 *
 * Waiting is a futex in the queue. Who finds it full (empty) sets the waiting flag, reads the sequence number, looks
 * once more, and sleeps for as long as the number is still that. Who empties (fills) a cell looks at the flag
 * afterwards; when it is set he clears it, moves the number and wakes all. Should he be killed before, he is cleared
 * up, and that wakes them; should he be stopped, they look by themselves at the end of a slice. A dead sleeper costs
 * one needless wake-up. A sleeper holds the queue meanwhile, so that the futex stays where it is; it sees once a slice
 * whether the heap has ended.
 */

#include "heap/object/queue.h"
#include "heap/change/intent.h"
#include "heap/object/cell.h"
#include "heap/object/count.h"
#include "heap/object/header_lock.h"
#include "heap/object/hold.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC  INT64_C(1000000000)
#define SLICE_NSEC    NSEC_PER_SEC
#define PASS_OVER_MAX 1024 /* spoilt cells passed over in one call */
#define STREAM_MIN    8U   /* so many in a row are more than a message and its answer */
#define STREAM_PAUSES 16   /* some 40 cycles each, or some 100 */
#define TRIES_MAX     100U /* under the lock, against others without it */

#define QUEUE_LIKELY(x)   __builtin_expect(!!(x), 1)
#define QUEUE_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define QUEUE_RARE        __attribute__((noinline))

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif

/* What an attempt returns, beside what its caller is to get: another one came first; it goes under the lock. */
#define QUEUE_AGAIN  3
#define QUEUE_NOT    4
#define QUEUE_SPOILT 5 /* what was in the cell names nothing: the next, perhaps */

/* What a call has to wait for: *seq to be something else than `value`. */
struct wait {
	uint32_t *seq;
	uint32_t value;
};

/* ---- finding the queue ------------------------------------------------------------------------------------------- */

/* Which it is; nothing is said of how full it is. */
static int find_any(struct heap *heap, uint64_t ref, struct object *ret_object, struct queue_view *ret)
{
	int r;

	r = object_find(heap, ref, ret_object);
	if (r < 0)
		return r;
	if (ret_object->type != TYPE_QUEUE)
		return -EINVAL;
	ret->queue = (struct queue *)(void *)ret_object->data;
	ret->n = ret->queue->n;
	return ret_object->size >= sizeof(struct queue) && ret->n && !((uintptr_t)ret->queue % sizeof(struct cell)) &&
			       ret->n <= (ret_object->size - sizeof(struct queue)) / sizeof(struct cell)
		       ? 0
		       : -EUCLEAN;
}

/* Most often it is one that the session holds and used lately: false, it is not. */
static inline bool find_cached(const struct session *session, uint64_t ref, struct queue_view *ret)
{
	const struct cached_object *cached = cache_object(session->cache, ref);
	uint64_t word;

	if (!QUEUE_LIKELY(cached->ref == ref && !cached->pool && cached->queue))
		return false;
	/* relaxed: it is alive for as long as it is held, unless the heap was damaged and repaired */
	word = __atomic_load_n(&cached->held_header->word, __ATOMIC_RELAXED);
	*ret = (struct queue_view){cached->queue, cached->n_cells};
	/* its own number: a stray write is found out here as it is there */
	return QUEUE_LIKELY(header_is(word, ref_generation(ref), STATE_LIVE) && cached->queue->n == cached->n_cells);
}

/* A queue that was not used lately. QUEUE_NOT the session does not hold it, where that is not known (is_held). */
static QUEUE_RARE int get_to_know(struct session *session, uint64_t ref, bool is_held, struct queue_view *ret)
{
	struct object object;
	int r;

	if (!is_held && !object_is_held_unlocked(session, ref))
		return QUEUE_NOT;
	r = object_lookup(session, ref, &object);
	if (!r)
		r = find_any(session->heap, ref, &object, ret);
	if (r < 0)
		return r;
	object_remember(session, ref, &object);
	if (cache_object(session->cache, ref)->ref == ref)
		cache_object(session->cache, ref)->n_cells = ret->n; /* as it was when it was found good */
	return 0;
}

/* ---- who was there before ---------------------------------------------------------------------------------------- */

/* Before the cell is changed, which takes away what tells of the same change one lap ago. */
static inline int help_filler(
	struct session *session, uint64_t queue, const struct queue_view *found, const struct cell_value *seen)
{
	uint32_t index = stamp_filled_by(seen->stamp);

	return QUEUE_LIKELY(index == session->index)
		       ? 0
		       : intent_note_done_of_other(session, index, intent_is_push, queue, seen->position - found->n);
}

static inline int help_emptier(
	struct session *session, uint64_t queue, const struct queue_view *found, const struct cell_value *seen)
{
	uint32_t index = stamp_emptied_by(seen->stamp);

	return QUEUE_LIKELY(index == session->index)
		       ? 0
		       : intent_note_done_of_other(session, index, intent_is_pop, queue, seen->position - found->n);
}

/* ---- waking ------------------------------------------------------------------------------------------------------ */

static QUEUE_RARE void wake(uint32_t *seq)
{
	__atomic_fetch_add(seq, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, seq, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* After a cell was changed: whoever waits for that is woken. The flag first, so that who sets it later sees the cell.
 */
static inline void signal(uint32_t *seq, uint32_t *waiting)
{
	/* after the compare-and-swap, a full barrier; see announce() */
	if (QUEUE_UNLIKELY(__atomic_load_n(waiting, __ATOMIC_SEQ_CST)) &&
		__atomic_exchange_n(waiting, 0, __ATOMIC_SEQ_CST))
		wake(seq);
}

static inline void pushed(const struct queue_view *found, const struct cell_value *seen)
{
	__atomic_store_n(&found->queue->tail, seen->position + 1, __ATOMIC_RELAXED); /* relaxed: a hint */
	signal(&found->queue->push_seq, &found->queue->pop_waiting);
}

static inline void popped(const struct queue_view *found, const struct cell_value *seen)
{
	__atomic_store_n(&found->queue->head, seen->position + 1, __ATOMIC_RELAXED); /* the same */
	signal(&found->queue->pop_seq, &found->queue->push_waiting);
}

/* Before the last look: somebody is going to wait for a cell to be emptied (filled). */
static void announce(struct queue *queue, bool is_push_call, struct wait *ret)
{
	ret->seq = is_push_call ? &queue->pop_seq : &queue->push_seq;
	__atomic_store_n(is_push_call ? &queue->push_waiting : &queue->pop_waiting, 1, __ATOMIC_SEQ_CST);
	ret->value = __atomic_load_n(ret->seq, __ATOMIC_SEQ_CST);
	/* that store before the look: either who changes a cell sees the flag, or the cell is seen changed */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* ---- what comes next --------------------------------------------------------------------------------------------- */

/*
 * Places and headers come from the other side's cache, which takes longer than all else. So they are fetched while what
 * comes before them is done: a cell eight positions ahead, and the header of what is in the one four ahead, if the
 * other side is known to be done with them; where it is near, to fetch them would take them out of its hands.
 */
#define AHEAD_CELL   8
#define AHEAD_HEADER 4
#define AHEAD_READ   16U /* of so many positions one looks how far the other side is, which is such a fetch itself */

static inline struct cell *cell_ahead(const struct queue_view *found, const struct cell_value *seen, uint64_t n)
{
	uint64_t i = (uint64_t)(seen->cell - found->queue->cells) + n;

	return &found->queue->cells[i < found->n ? i : i - found->n];
}

/* Is the other side, whose hint is *hint, `lead` positions ahead, or more? */
static inline bool is_far(
	struct other_side *side, const struct queue_view *found, const uint64_t *hint, uint64_t position, int64_t lead)
{
	/* relaxed: a hint of a hint */
	if (QUEUE_UNLIKELY(side->queue != found->queue || position % AHEAD_READ == 0)) {
		side->queue = found->queue;
		side->position = __atomic_load_n(hint, __ATOMIC_RELAXED);
	}
	return (int64_t)(side->position - position) >= lead;
}

/* After a push: the next cells were emptied long ago. */
static inline void fetch_for_push(
	struct session *session, const struct queue_view *found, const struct cell_value *seen)
{
	if (found->n > AHEAD_CELL && is_far(&session->pushing, found, &found->queue->head, seen->position,
					     AHEAD_CELL + 1 - (int64_t)found->n))
		__builtin_prefetch(cell_ahead(found, seen, AHEAD_CELL), 1);
}

/* After a pop: the next cells were filled long ago, and so were the objects in them made. */
static inline void fetch_for_pop(struct session *session, const struct queue_view *found, const struct cell_value *seen)
{
	const void *header;
	uint64_t off;

	if (found->n <= AHEAD_CELL ||
		!is_far(&session->popping, found, &found->queue->tail, seen->position, AHEAD_CELL + 1))
		return;
	__builtin_prefetch(cell_ahead(found, seen, AHEAD_CELL), 1);
	off = ref_position(__atomic_load_n(&cell_ahead(found, seen, AHEAD_HEADER)->ref, __ATOMIC_RELAXED)) << 3;
	header =
		off < session->heap->heap_size ? own_guess_header(session, off) : NULL; /* a stray write may be there */
	if (QUEUE_LIKELY(header))
		__builtin_prefetch(header, 1);
}

/* ---- push -------------------------------------------------------------------------------------------------------- */

/* From whom a quick push takes the right. */
struct sender {
	struct hold *hold;            /* its entry in the session's table or, if that has none, where it would stand */
	struct object_header *header; /* NULL, or its own object's, that it holds by the word and not by the table */
};

/* The header of the session's own object, if it holds it by that; most often one used lately. */
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

/* 0; QUEUE_NOT it is none for the quick way; *ret_is_held: the session holds it. */
static inline int find_sender(struct session *session, uint64_t ref, struct sender *ret, bool *ret_is_held)
{
	*ret_is_held = false;
	ret->header = NULL;
	ret->hold = hold_probe(session, ref);
	if (QUEUE_UNLIKELY(!ret->hold))
		return QUEUE_NOT;
	if (ret->hold->ref != HOLD_EMPTY) {
		*ret_is_held = true;
		return QUEUE_LIKELY(ret->hold->count == 1 && hold_stands_last(session, ret->hold)) ? 0 : QUEUE_NOT;
	}
	ret->header = own_header(session, ref);
	*ret_is_held = ret->header;
	/* relaxed: others drop theirs at any time. There is room in the table, should it have to go there. */
	return QUEUE_LIKELY(ret->header && hold_has_room(session) && ret->header->rights_given < RIGHTS_GIVEN_MAX &&
			    rights_count(__atomic_load_n(&ret->header->rights, __ATOMIC_RELAXED)) < RIGHTS_MAX)
		       ? 0
		       : QUEUE_NOT;
}

/* Inside: the sender has the right no more. True: it holds the object no more as the owner of its pool. */
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
	/* relaxed, then release: who finds the word of an object that was let go of finds what was given away */
	__atomic_store_n(&sender->header->rights_given, (uint16_t)(given + 1), __ATOMIC_RELAXED);
	word = __atomic_load_n(&sender->header->word, __ATOMIC_RELAXED);
	__atomic_store_n(&sender->header->word, word - 1, __ATOMIC_RELEASE);
	if (header_own(word) != 1)
		return false;
	cache_forget(session->cache, ref);
	return true;
}

/*
 * Inside, another one came first: the sender has the right again, by its table. Not by the word: what was given away
 * stays given, so that who looks at the word and then at the rights misses neither.
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
static inline int push_fast(struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t ref)
{
	struct sender sender;
	struct cell_value seen;
	bool is_held, is_let_go = false;
	int quick, r;

	/* A queue that goes into itself might be gone before it is told. */
	if (QUEUE_UNLIKELY(session->has_lock || ref == queue_ref))
		return QUEUE_NOT;
	quick = find_sender(session, ref, &sender, &is_held);
	if (QUEUE_UNLIKELY(!is_held))
		return QUEUE_NOT; /* which says why */
	r = cell_find_free(found, &seen);
	if (QUEUE_UNLIKELY(!r && quick))
		return quick;
	if (!r)
		r = help_filler(session, queue_ref, found, &seen);
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
		if (QUEUE_LIKELY(fill(session, &seen, ref))) {
			fetch_for_push(session, found, &seen);
			pushed(found, &seen);
			r = 0;
		} else {
			give_back_to(session, &sender, queue_ref, &seen, ref);
		}
	}
	intent_end(session);
	critical_leave(session, is_let_go ? -1 : 0);
	return r;
}

/* Within a change: the sender's right becomes the intent's. */
static int take_from_locked(struct session *session, uint64_t ref, const struct object *object, struct hold *hold)
{
	struct heap *heap = session->heap;
	struct intent *intent = &session->entry->intent;
	int r;

	r = object_pass_on(session, ref, object, hold);
	if (r < 0)
		return r;
	heap_set(heap, &intent->ref, ref);
	intent_turn(session, INTENT_RIGHT);
	change_commit(heap);
	return 0;
}

/* Within a change, there was no cell after all: the intent's right becomes the session's again, as it was taken. */
static void give_back_locked(struct session *session, uint64_t ref, const struct object *object, bool by_word)
{
	struct heap *heap = session->heap;
	bool first = false;

	if (by_word && header_lock(session, object->header, ref) == 0) { /* it counts less than it can: one was taken */
		if (!header_own(header_word(object->header)))
			heap_add(heap, &session->entry->n_own_holds, 1);
		heap_set(heap, &object->header->word, header_word(object->header) + 1);
	} else {
		(void)hold_add(session, ref, &first); /* there is room: it was held a moment ago */
	}
	if (!first)
		(void)object_drop(session, object);
	intent_turn(session, INTENT_NONE);
	change_commit(heap);
}

static int fill_locked(struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t ref)
{
	struct cell_value seen;
	int r;

	for (uint32_t n_tries = 0;; n_tries++) {
		r = cell_find_free(found, &seen);
		if (r < 0)
			break;
		intent_note_done(session->heap, stamp_filled_by(seen.stamp), intent_is_push, queue_ref,
			seen.position - found->n);
		change_commit(session->heap);
		intent_begin(session, INTENT_RIGHT, INTENT_PUSH_RIGHT, queue_ref, seen.position, ref);
		if (fill(session, &seen, ref))
			break;
		if (n_tries == TRIES_MAX && !session->has_lock)
			critical_pause_queues(session); /* the others, who need no lock, wait now */
	}
	if (!r) {
		pushed(found, &seen);
		intent_end(session);
	}
	if (!session->has_lock && session->control->queues_paused_by1)
		critical_resume_queues(session->heap);
	return r;
}

static int push_in_change(struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t ref)
{
	struct hold *hold = hold_find(session, ref);
	struct object object;
	struct cell_value seen;
	int r;

	r = object_find(session->heap, ref, &object);
	if (r < 0)
		return r;
	if (!hold && !object_is_held_by_word(session, &object))
		return -EPERM;
	r = cell_find_free(found, &seen);
	if (!r)
		r = take_from_locked(session, ref, &object, hold);
	if (r < 0)
		return r;
	r = fill_locked(session, queue_ref, found, ref);
	if (r < 0)
		give_back_locked(session, ref, &object, !hold);
	return r;
}

static QUEUE_RARE int push_locked(
	struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t ref)
{
	int r;

	r = change_begin(session);
	if (r < 0)
		return r;
	r = change_end(session, push_in_change(session, queue_ref, found, ref));
	hold_shrink(session);
	return r;
}

/* ---- pop --------------------------------------------------------------------------------------------------------- */

/* Take note of what was received: the session holds it by its table. */
static inline void note_received(struct session *session, uint64_t ref, const struct object *object)
{
	session_cache_held(session, ref, object->type != TYPE_QUEUE, object->header);
}

/* One attempt without the lock. What a stray write put into a cell names nothing and is passed over. */
static inline int pop_fast(struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t *ret)
{
	struct object object;
	struct hold *cell;
	struct cell_value seen;
	int r;

	if (QUEUE_UNLIKELY(session->has_lock))
		return QUEUE_NOT;
	r = cell_find_filled(found, &seen);
	if (!r)
		r = help_emptier(session, queue_ref, found, &seen);
	if (QUEUE_UNLIKELY(r))
		return r;
	cell = hold_probe(session, seen.ref);
	if (QUEUE_UNLIKELY(!cell || cell->ref != HOLD_EMPTY))
		return QUEUE_NOT;
	intent_begin(session, INTENT_NONE, INTENT_POP, queue_ref, seen.position, seen.ref);
	if (QUEUE_UNLIKELY(!critical_enter(session))) {
		intent_end(session);
		r = session_serve_requests(session);
		return r < 0 ? r : QUEUE_AGAIN;
	}
	r = critical_queues_are_paused(session) ? QUEUE_NOT : QUEUE_AGAIN;
	intent_note(session, session->entry->n_holds);
	if (QUEUE_LIKELY(r == QUEUE_AGAIN && empty(session, found, &seen))) {
		fetch_for_pop(session, found, &seen);
		r = QUEUE_SPOILT;
		if (QUEUE_LIKELY(object_find_fast(session->heap, seen.ref, &object) == 0)) {
			hold_put_fast(session->entry, cell, seen.ref);
			own_note_class(session, object.pool);
			note_received(session, seen.ref, &object);
			*ret = seen.ref;
			r = 0;
		}
		popped(found, &seen);
	}
	intent_end(session);
	critical_leave(session, 0);
	return r;
}

/* Within a change. */
static int pop_in_change(struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t *ret)
{
	struct heap *heap = session->heap;
	struct object object;
	struct hold *cell;
	struct cell_value seen;
	bool first = true, is_alive;
	int r;

	r = cell_find_filled(found, &seen);
	if (r < 0)
		return r;
	cell = hold_probe(session, seen.ref);
	if (!cell)
		return -EUCLEAN;
	if (cell->ref != HOLD_EMPTY && cell->count == UINT32_MAX)
		return -EOVERFLOW;
	intent_note_done(heap, stamp_emptied_by(seen.stamp), intent_is_pop, queue_ref, seen.position - found->n);
	change_commit(heap);
	intent_begin(session, INTENT_NONE, hold_is_there(cell) ? INTENT_POP_RIGHT : INTENT_POP, queue_ref,
		seen.position, seen.ref);
	intent_note(session, session->entry->n_holds);
	is_alive = object_find(heap, seen.ref, &object) == 0;
	if (!empty(session, found, &seen)) {
		intent_end(session);
		return QUEUE_AGAIN;
	}
	intent_record_done(session);
	popped(found, &seen);
	r = is_alive ? hold_put(session, cell, seen.ref, &first) : 0;
	if (!r && !first) /* the session has its right already, the queue's goes */
		r = object_drop(session, &object);
	intent_turn(session, INTENT_NONE);
	if (r < 0 || !is_alive)
		return r < 0 ? r : QUEUE_SPOILT;
	note_received(session, seen.ref, &object);
	*ret = seen.ref;
	return 0;
}

static QUEUE_RARE int pop_locked(
	struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t *ret)
{
	int r;

	r = change_begin(session);
	return r < 0 ? r : change_end(session, pop_in_change(session, queue_ref, found, ret));
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

static int64_t now_nsec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* Sleep until woken, or the deadline (-1: none), or the end of a slice. -ETIMEDOUT, -EINTR, -EPIPE. */
static int wait_for(struct heap *heap, const struct wait *wait, int64_t deadline)
{
	int64_t left = SLICE_NSEC;
	struct timespec ts;

	if (deadline >= 0) {
		left = deadline - now_nsec();
		if (left <= 0)
			return -ETIMEDOUT;
		if (left > SLICE_NSEC)
			left = SLICE_NSEC;
	}
	ts = (struct timespec){.tv_sec = left / NSEC_PER_SEC, .tv_nsec = left % NSEC_PER_SEC};
	if (syscall(SYS_futex, wait->seq, FUTEX_WAIT, wait->value, &ts, NULL, 0) < 0 && errno == EINTR)
		return -EINTR;
	return __atomic_load_n(&heap->control->ended, __ATOMIC_RELAXED) ? -EPIPE : 0;
}

/*
 * Who is faster than the other side and tries again at once takes the cache line of the next cell out of its hands,
 * each time that it wants to change it: both get slow. So after some successes the first attempt in vain is followed by
 * a pause, for as long as it takes the other side to do several, and one more attempt. Of single ones, back and forth,
 * nobody waits so. True: a pause was made.
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

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static inline int push(struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t ref)
{
	int r;

	do {
		r = push_fast(session, queue_ref, found, ref);
		if (QUEUE_UNLIKELY(r == QUEUE_NOT))
			r = push_locked(session, queue_ref, found, ref);
	} while (QUEUE_UNLIKELY(r == QUEUE_AGAIN || pause_for_other_side(&session->pushing, r)));
	return r;
}

static inline int pop(struct session *session, uint64_t queue_ref, const struct queue_view *found, uint64_t *ret)
{
	int r;

	for (int n_spoilt = 0; n_spoilt < PASS_OVER_MAX; n_spoilt += r == QUEUE_SPOILT) {
		r = hold_reserve(session);
		if (QUEUE_UNLIKELY(r))
			return r;
		r = pop_fast(session, queue_ref, found, ret);
		if (QUEUE_UNLIKELY(r == QUEUE_NOT))
			r = pop_locked(session, queue_ref, found, ret);
		if (QUEUE_LIKELY(r != QUEUE_AGAIN && r != QUEUE_SPOILT && !pause_for_other_side(&session->popping, r)))
			return r;
	}
	return -EUCLEAN;
}

/* One of the two, by whether ref_to_push is given, on a queue that the session holds; is_held: that is known. With
 * `wait`: and wants to wait. */
static inline int attempt(struct session *session, uint64_t queue_ref, uint64_t ref_to_push, uint64_t *ret,
	bool is_held, struct wait *wait)
{
	struct queue_view found;
	int r;

	if (QUEUE_UNLIKELY(!find_cached(session, queue_ref, &found))) {
		r = get_to_know(session, queue_ref, is_held, &found);
		if (r)
			return r;
	}
	if (wait)
		announce(found.queue, ref_to_push != 0, wait);
	return ref_to_push ? push(session, queue_ref, &found, ref_to_push) : pop(session, queue_ref, &found, ret);
}

/* The same, of a queue that the session holds for as long as it takes, and after waiting. */
static int attempt_and_wait(
	struct session *session, uint64_t queue, uint64_t ref_to_push, uint64_t *ret, int timeout_ms)
{
	int64_t deadline = timeout_ms < 0 ? -1 : now_nsec() + (int64_t)timeout_ms * 1000000;
	struct wait wait;
	int r;

	r = object_incref(session, queue);
	if (r)
		return r;
	do {
		r = attempt(session, queue, ref_to_push, ret, true, timeout_ms ? &wait : NULL);
		if (r != -EAGAIN || !timeout_ms)
			break;
		if (session->has_lock) {
			r = -EDEADLK;
			break;
		}
		r = wait_for(session->heap, &wait, deadline);
	} while (!r);
	(void)object_decref(session, queue);
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

/* ---- what the dead had begun ------------------------------------------------------------------------------------- */

/* Has the compare-and-swap of the session's intent taken cell? */
static bool has_happened(const struct session *session, const struct queue_view *found)
{
	const struct intent *intent = &session->entry->intent;
	int64_t ahead, lap = (int64_t)found->n;
	struct cell_value seen;

	if (session->entry->done == intent_number(intent->word))
		return true;
	ahead = look(found, intent->position, &seen);
	if (intent_is_pop(intent_kind(intent->word)))
		return stamp_emptied_by(seen.stamp) == session->index && ahead == lap;
	return stamp_filled_by(seen.stamp) == session->index && (seen.ref ? ahead == 0 : ahead == lap);
}

static int drop_right_of(struct session *session, uint64_t ref)
{
	struct object object;

	return object_find(session->heap, ref, &object) < 0 ? 0 : object_drop(session, &object);
}

/* It was to be given away, and was not. */
static void take_gift_back(struct session *session)
{
	const struct session_entry *entry = session->entry;
	uint16_t before = (uint16_t)entry->intent_before;
	struct object object;
	uint64_t rights;

	if (entry->intent_before == INTENT_UNKNOWN)
		return;
	if (object_match(session->heap, entry->intent.ref, &object) == 0 && object.pool->owner1 == session->owner1 &&
		object.header->rights_given == before + 1 &&
		header_lock(session, object.header, entry->intent.ref) == 0) {
		rights = object.header->rights - (UINT64_C(1) << 48);
		heap_set(session->heap, &object.header->rights, rights | RIGHTS_SHARED);
	}
}

/* Of an intent to push or pop: where is the right? True: nowhere else, so it is dropped. */
static bool finish_change(struct session *session, uint32_t kind, bool is_held)
{
	struct session_entry *entry = session->entry;
	struct object queue;
	struct queue_view found;
	bool happened;

	/* A queue that is gone although it was held: the heap was damaged, and nobody knows. Then a right is lost
	 * rather than dropped twice: a repair finds it. */
	if (find_any(session->heap, entry->intent.queue, &queue, &found) < 0)
		return false;
	happened = has_happened(session, &found);
	if (happened) {
		intent_record_done(session);
		wake(&found.queue->push_seq);
		wake(&found.queue->pop_seq);
	}
	if (kind == INTENT_PUSH_OWN) {
		if (!happened && !is_held)
			take_gift_back(session);
		return false;
	}
	return happened == intent_is_pop(kind) && !((kind == INTENT_PUSH || kind == INTENT_POP) && is_held);
}

int queue_finish(struct session *session)
{
	struct session_entry *entry = session->entry;
	uint32_t kind = intent_kind(entry->intent.word);
	bool is_held = hold_lookup(session->heap, entry, entry->intent.ref) != NULL;
	bool has_right = kind == INTENT_RIGHT;

	if (intent_is_push(kind) || intent_is_pop(kind))
		has_right = finish_change(session, kind, is_held);
	if ((kind == INTENT_PUSH || kind == INTENT_POP) &&
		entry->intent_before != INTENT_UNKNOWN) /* with the right that the table has, or has no more */
		heap_set(session->heap, &entry->n_holds,
			entry->intent_before + (kind == INTENT_POP && is_held) - (kind == INTENT_PUSH && !is_held));
	intent_turn(session, INTENT_NONE);
	return has_right ? drop_right_of(session, entry->intent.ref) : 0;
}

int queue_forget(struct session *session)
{
	intent_turn(session, INTENT_NONE);
	return 0;
}
