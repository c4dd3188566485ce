// SPDX-License-Identifier: MIT
/*
 * Rebuild: derived state made anew from the truth
 *
 * The truth is in few places: the states of arenas, the kinds of pools, the header words of blocks and runs, hold
 * tables, slots and name entries. All else (free lists, usedpools, freepools, nfreepools, usable_arenas and its order,
 * rank2lasta, returnable_arenas, name chains, counters) follows from it, and is made here without reading what it was.
 *
 * That is more than the log can hold, so a rebuild is not logged. control->rebuilding is set before its first store and
 * cleared after the last. Everyone who takes the lock reads it; if it is set, the rebuild is done once more before
 * anything else, to the same effect, since the truth is only read.
 *
 * All sessions are kept out of their critical sections meanwhile (critical_block_all()). A session that is active all
 * the same, since it was stopped or died inside, keeps what is its own: it goes on with it, or is reclaimed by its
 * headers, which are settled if it is dead. Free pools and spare runs of all other sessions go back.
 *
 * When a rebuild is done once more, a session that is active now may have been out when the rebuild began: it was about
 * to enter, and was stopped before it read its requests. Then its own lists are half made, and it would go on with them
 * once the requests are cleared. So REQUEST_REBUILD goes to each session that is active then: before its next critical
 * section it makes its own anew, by itself, with the lock held (rebuild_own()). Until then it counts as active.
 *
 * A process that may not use membarrier(2) cannot keep out sessions that rely on it. It begins no rebuild and finishes
 * none: all sessions would count as active, so it would leave their own lists as the dead process left them, half made,
 * and say that all is done. It gives the lock back with `rebuilding` and the requests still set, so that nobody works
 * with what is half made, and waits a second at most for a process that can finish: any other that comes to the lock,
 * and the daemon, which tries at each tick. Then its call fails (-EOPNOTSUPP), and has changed nothing. Some process
 * can: a living session that relies on membarrier(2) is of a process that may use it, and where all living sessions are
 * fenced every process can.
 *
 * Died after ...                  the next owner of the lock ...
 *   setting rebuilding, or inside   does the whole rebuild once more
 *   clearing rebuilding             finds it done; requests that are still set are cleared by each session's next call
 */

#include "heap/memory/rebuild.h"
#include "heap/memory/arena.h"
#include "heap/memory/rebuild_pool.h"
#include "heap/memory/run.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <string.h>

static uint32_t n_known(const struct heap *heap)
{
	uint32_t n = arenas_known(heap);

	return n < heap->n_arenas ? n : heap->n_arenas;
}

static void rebuild_arena_of_pools(struct heap *heap, uint32_t a)
{
	struct arena_entry *arena = &heap->arenas[a];
	bool is_record = read_once(arena->space) == SPACE_RECORDS;
	struct space *space = &heap->control->spaces[is_record ? SPACE_RECORDS : SPACE_OBJECTS];
	uint64_t *freepools = &heap->freepools[a * heap->pool_words];
	uint32_t n_free = 0;

	memset(freepools, 0, heap->pool_words * sizeof(*freepools));
	for (uint32_t i = 0; i < heap->pools_per_arena;) {
		uint32_t n =
			rebuild_pool(heap, a * heap->pools_per_arena + i, heap->pools_per_arena - i, space, is_record);

		if (!n) {
			shared_add(freepools[i / 64], UINT64_C(1) << (i & 63));
			n_free++;
		}
		i += n ? n : 1;
	}
	if (read_once(arena->n_free_pools) != n_free) {
		arena->n_free_pools = n_free;
		arena->free_since = heap_clock(heap);
	}
	shared_add(heap->control->counters.n_arenas_current, 1);
	shared_add(space->n_free_arenas, n_free == heap->pools_per_arena);
}

/*
 * How many arenas a run has: what follows its head and is BODY, as far as the head counts. The head says so from now
 * on.
 */
static uint32_t settle_run_length(struct heap *heap, uint32_t a)
{
	uint32_t n = heap_run_length(heap, a), k;

	for (k = 1; k < n && a + k < n_known(heap); k++)
		if (!arena_is_there(heap, a + k) || arena_state(&heap->arenas[a + k]) != ARENA_BODY)
			break;
	if (read_once(heap->arenas[a].n_arenas) != k)
		heap->arenas[a].n_arenas = k;
	return k;
}

static void rebuild_returnable(struct heap *heap, uint32_t a, uint32_t n)
{
	struct control *control = heap->control;
	struct arena_entry *arena = &heap->arenas[a];

	arena->links.both = 0;
	if (!read_once(control->returnable_last1))
		control->returnable_last1 = a + 1;
	list_push(heap, false, &control->returnable_arenas1, (struct list_node){&arena->links, a + 1},
		arena_node(heap, read_once(control->returnable_arenas1)));
	shared_add(control->n_returnable, n);
}

/* Returns the run's length. */
static uint32_t rebuild_arena_run(struct heap *heap, uint32_t a)
{
	struct arena_entry *arena = &heap->arenas[a];
	struct pool_entry *pool = &heap->pools[a * heap->pools_per_arena];
	uint32_t n = settle_run_length(heap, a);

	shared_add(heap->control->counters.n_arenas_current, n);
	if (arena_state(arena) == ARENA_RETURNABLE)
		rebuild_returnable(heap, a, n);
	else if (read_once(pool->kind) == POOL_RUN) /* else damaged beyond what the truth tells: nobody's */
		rebuild_pool_arenas(heap, a * heap->pools_per_arena, n * heap->pools_per_arena,
			read_once(arena->space) == SPACE_RECORDS);
	return n;
}

/* Append the arenas of each rank in turn to usable_arenas: so it ascends, and rank2lasta comes with it. */
static void rebuild_usable_arenas(struct heap *heap, uint32_t space_kind)
{
	struct space *space = &heap->control->spaces[space_kind];
	uint32_t first1[N_RANKS] = {0};
	uint32_t last1 = 0, rank, n = n_known(heap), n_left = n;

	for (uint32_t a = n; a-- > 0;) {
		struct arena_entry *arena = &heap->arenas[a];

		if (!arena_is_there(heap, a) || arena_state(arena) != ARENA_POOLS ||
			read_once(arena->space) != space_kind)
			continue;
		rank = arena_rank(heap, read_once(arena->n_free_pools));
		arena->prev1 = 0;
		arena->next1 = first1[rank]; /* first a chain per rank */
		first1[rank] = a + 1;
	}
	for (rank = 1; rank < N_RANKS; rank++) {
		for (uint32_t a1 = first1[rank]; a1 && a1 <= n && n_left > 0;
			a1 = read_once(heap->arenas[a1 - 1].next1), n_left--) {
			heap->arenas[a1 - 1].prev1 = last1;
			if (last1)
				heap->arenas[last1 - 1].next1 = a1;
			else
				space->usable_arenas1 = a1;
			last1 = a1;
			space->rank2lasta1[rank] = a1;
		}
	}
}

static void rebuild_arenas(struct heap *heap)
{
	for (uint32_t a = 0, n; a < n_known(heap); a += n) {
		struct arena_entry *arena = &heap->arenas[a];
		uint32_t state;

		n = 1;
		if (!arena_is_there(heap, a))
			continue;
		state = arena_state(arena);
		if (read_once(arena->space) >= N_SPACES)
			arena->space = SPACE_OBJECTS; /* damaged: most arenas are of objects */
		if (state == ARENA_POOLS)
			rebuild_arena_of_pools(heap, a);
		else if (state == ARENA_RUN || state == ARENA_RETURNABLE)
			n = rebuild_arena_run(heap, a);
	}
	for (uint32_t i = 0; i < N_SPACES; i++)
		rebuild_usable_arenas(heap, i);
}

/* Before the pools: empty the session's lists of pools, but an active one keeps what is its own. */
static void clear_session(struct heap *heap, uint32_t index)
{
	struct session_entry *entry = &heap->sessions[index];

	entry->owned_pools1 = 0;
	entry->remote_pools1 = 0;
	if (critical_was_active(heap, index))
		return;
	memset(entry->usedpools1, 0, sizeof(entry->usedpools1));
	memset(entry->spare_runs1, 0, sizeof(entry->spare_runs1));
}

/* After the pools: how many objects in its own pools a session holds. For reports: what a stray write does meanwhile
 * ends the counting. */
static uint64_t count_own_holds(const struct heap *heap, const struct session_entry *entry)
{
	uint32_t p1 = read_once(entry->owned_pools1), n_left = n_known(heap) * heap->pools_per_arena;
	uint64_t n = 0;

	for (; p1 && n_left > 0; n_left--) {
		const struct pool_entry *pool = pool_at(heap, p1 - 1);
		const struct object_header *headers;
		uint32_t n_headers = 1, identity;

		if (!pool)
			break;
		p1 = read_once(pool->owned_next1);
		headers = &pool->header;
		identity = read_once(pool->identity);
		if ((identity & 0xff) == POOL_BLOCKS) {
			headers = pool_headers(heap, pool);
			n_headers = class_shapes[identity >> 8 & 0xff].n_blocks;
		}
		for (uint32_t i = 0; i < n_headers; i++) {
			uint64_t word = header_word(&headers[i]);

			n += header_state(word) == STATE_LIVE && header_own(word);
		}
	}
	return n;
}

static void rebuild_session(struct heap *heap, uint32_t index)
{
	struct session_entry *entry = &heap->sessions[index];
	/* relaxed, both, and once: a stray write may change them at any time */
	uint64_t position1 = __atomic_load_n(&entry->holds_position1, __ATOMIC_RELAXED);
	uint32_t shift = __atomic_load_n(&entry->holds_shift, __ATOMIC_RELAXED);
	uint64_t off = (position1 - 1) << 3, n = HOLDS_INLINE, n_holds = 0;
	const struct hold *table = entry->holds_inline;

	/* relaxed: for reports */
	if (!critical_was_active(heap, index))
		__atomic_store_n(&entry->n_own_holds, count_own_holds(heap, entry), __ATOMIC_RELAXED);
	if (position1) {
		n = shift < 32 ? UINT64_C(1) << shift : 0;
		if (!pools_are_there(heap, off, n * sizeof(*table)))
			return;
		table = (const void *)(heap->base + off);
	}
	if (intent_kind(read_once(entry->intent.word)) != INTENT_NONE)
		return; /* the session may be between changing the table and n_holds */
	for (uint64_t i = 0; i < n; i++)
		n_holds += read_once(table[i].ref) != HOLD_EMPTY;
	entry->n_holds = n_holds;
}

/*
 * Names. Each is put in front of its chain, then each chain is sorted by hash. Forged names may all be of one chain, so
 * sorting takes n log n steps; and what a stray write does to the links meanwhile can neither lead outside of the heap
 * nor make it longer.
 */

/* A chain of names, and how many they are. */
struct chain {
	uint64_t first; /* its position */
	uint64_t n;
};
#define N_BINS 40U /* chains of 1, 2, 4, ... names: more than a heap can have */

/* NULL: no name can be there. */
static struct name_entry *name_at(const struct heap *heap, uint64_t position)
{
	uint64_t off = position << 3;

	return position <= REF_POSITION_MASK && pools_are_there(heap, off, sizeof(struct name_entry))
		       ? (void *)(heap->base + off)
		       : NULL;
}

static void link_name(struct heap *heap, uint64_t position)
{
	struct name_entry *entry = (void *)(heap->base + (position << 3));
	uint64_t bucket = __atomic_load_n(&entry->hash, __ATOMIC_RELAXED) >> heap->name_shift;

	if (bucket >= heap->n_name_buckets)
		return;
	entry->next = read_once(heap->name_buckets[bucket]);
	heap->name_buckets[bucket] = position;
	shared_add(heap->control->counters.n_names, 1);
}

/* One ascending chain of two. */
static struct chain chain_merge(const struct heap *heap, struct chain a, struct chain b)
{
	struct chain ret = {0, a.n + b.n};
	uint64_t *link = &ret.first;

	while (a.n && b.n) {
		struct name_entry *of_a = name_at(heap, a.first), *of_b = name_at(heap, b.first);
		bool is_b = of_a && of_b && read_once(of_b->hash) < read_once(of_a->hash);
		struct chain *from = is_b ? &b : &a;
		struct name_entry *entry = is_b ? of_b : of_a;

		if (!of_a || !of_b)
			break; /* a stray write: the rest of one chain is lost until the next rebuild */
		*link = from->first;
		link = &entry->next;
		from->first = __atomic_load_n(&entry->next, __ATOMIC_RELAXED);
		from->n--;
	}
	*link = a.n ? a.first : b.first;
	return ret;
}

/* Merge sort: bin i is empty or has 2^i names. */
static void sort_chain(const struct heap *heap, uint64_t *head, uint64_t n_max)
{
	struct chain bins[N_BINS] = {{0}}, all = {0};
	uint64_t position = read_once(*head);
	uint32_t i;

	for (uint64_t n = 0; position && n < n_max; n++) {
		struct name_entry *entry = name_at(heap, position);
		struct chain one = {position, 1};

		if (!entry)
			break;
		position = __atomic_load_n(&entry->next, __ATOMIC_RELAXED);
		entry->next = 0;
		for (i = 0; i < N_BINS - 1 && bins[i].n; i++) {
			one = chain_merge(heap, bins[i], one);
			bins[i].n = 0;
		}
		bins[i] = one;
	}
	for (i = 0; i < N_BINS; i++)
		if (bins[i].n)
			all = chain_merge(heap, bins[i], all);
	*head = all.first;
}

/* It was unlinked by a session that died before it freed it: that session's entry leads to it (displaced.c). */
static bool is_deleted(const struct heap *heap, uint64_t off)
{
	const struct name_entry *entry = (const void *)(heap->base + off);

	return !__atomic_load_n(&entry->ref, __ATOMIC_RELAXED);
}

static void rebuild_names_of_pool(struct heap *heap, uint32_t p)
{
	const struct pool_entry *pool = &heap->pools[p];
	const struct object_header *headers = (const void *)(heap->base + ((uint64_t)p << POOL_SHIFT));
	uint32_t identity = __atomic_load_n(&pool->identity, __ATOMIC_RELAXED), size_class = identity >> 8 & 0xff;
	uint32_t n_blocks;

	if ((identity & 0xff) != POOL_BLOCKS || !class_is_small(size_class))
		return;
	n_blocks = class_pool_blocks(size_class);
	for (uint32_t i = 0; i < n_blocks; i++) {
		uint64_t off = ((uint64_t)p << POOL_SHIFT) + block_offset(size_class, i);
		uint64_t word = header_word(&headers[i]);

		if (header_state(word) == STATE_LIVE && header_type(word) == TYPE_NAME &&
			header_size(word) > offsetof(struct name_entry, name) && !is_deleted(heap, off))
			link_name(heap, off >> 3);
	}
}

static void rebuild_names(struct heap *heap)
{
	memset(heap->name_buckets, 0, heap->n_name_buckets * sizeof(*heap->name_buckets));
	for (uint32_t a = 0; a < n_known(heap); a++)
		if (arena_is_there(heap, a) && arena_state(&heap->arenas[a]) == ARENA_POOLS &&
			read_once(heap->arenas[a].space) == SPACE_RECORDS)
			for (uint32_t i = 0; i < heap->pools_per_arena; i++)
				rebuild_names_of_pool(heap, a * heap->pools_per_arena + i);
	for (uint32_t b = 0; b < heap->n_name_buckets; b++)
		if (read_once(heap->name_buckets[b]))
			sort_chain(heap, &heap->name_buckets[b], heap->heap_size / sizeof(struct name_entry));
}

/* The other three tell of the past and are kept, so that no death in a rebuild loses them. */
static void clear_counters(struct counters *c)
{
	c->n_arenas_current = 0;
	c->n_names = 0;
}

/* Make the counters that tell of the past agree with what is there. */
static void finish_counters(struct counters *c)
{
	uint64_t current = read_once(c->n_arenas_current), allocated = read_once(c->n_arenas_allocated);

	if (allocated < current)
		c->n_arenas_allocated = allocated = current;
	c->n_arenas_reclaimed = allocated - current;
	if (read_once(c->n_arenas_highwater) < current)
		c->n_arenas_highwater = current;
}

static int rebuild_own_run(struct session *session, struct pool_entry *pool)
{
	uint32_t n_pools = read_once(pool->run_n_pools);
	uint32_t *spare1;

	if (header_state(header_word(&pool->header)) != STATE_FREE)
		return 0;
	if (!n_pools || n_pools > SPARE_RUN_MAX || n_pools >= session->heap->pools_per_arena)
		return run_disown(session, pool);
	spare1 = &session->entry->spare_runs1[n_pools - 1];
	if (read_once(*spare1))
		return run_disown(session, pool);
	*spare1 = pool_index(session->heap, pool) + 1;
	return 0;
}

static int rebuild_own_pool(struct session *session, struct pool_entry *pool)
{
	struct heap *heap = session->heap;

	uint32_t identity = read_once(pool->identity);

	if (identity >> 16 != session->owner1)
		return -EUCLEAN;
	if ((identity & 0xff) == POOL_RUN)
		return rebuild_own_run(session, pool);
	if ((identity & 0xff) != POOL_BLOCKS || (identity >> 8 & 0xff) >= N_CLASSES)
		return -EUCLEAN;
	rebuild_pool_own(heap, pool_index(heap, pool));
	return 0;
}

void rebuild_request_active(struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (session_state(&heap->sessions[i]) == SESSION_ACTIVE && critical_was_active(heap, i))
			critical_request(heap, i, REQUEST_REBUILD);
}

int rebuild_own(struct session *session)
{
	struct heap *heap = session->heap;
	struct session_entry *entry = session->entry;
	uint32_t n_left = n_known(heap) * heap->pools_per_arena;
	int r = 0;

	memset(entry->usedpools1, 0, sizeof(entry->usedpools1));
	memset(entry->spare_runs1, 0, sizeof(entry->spare_runs1));
	for (uint32_t p1 = read_once(entry->owned_pools1); p1 && !r; n_left--) {
		struct pool_entry *pool = pool_at(heap, p1 - 1);

		if (!pool || !n_left)
			return -EUCLEAN;
		p1 = read_once(pool->owned_next1); /* before the pool goes */
		r = rebuild_own_pool(session, pool);
	}
	if (r < 0)
		return r;
	/* relaxed: this session alone writes it, and others read it for reports */
	__atomic_store_n(&entry->n_own_holds, count_own_holds(heap, entry), __ATOMIC_RELAXED);
	return 0;
}

void rebuild_all(struct heap *heap)
{
	struct control *control = heap->control;
	struct counters *c = &control->counters;

	__atomic_store_n(&control->rebuilding, 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the mark, before the first store */
	clear_counters(c);
	memset(control->spaces, 0, sizeof(control->spaces));
	control->returnable_arenas1 = 0;
	control->returnable_last1 = 0;
	control->n_returnable = 0;
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (session_state(&heap->sessions[i]) != SESSION_FREE)
			clear_session(heap, i);
	rebuild_arenas(heap);
	rebuild_names(heap);
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		if (session_state(&heap->sessions[i]) != SESSION_FREE)
			rebuild_session(heap, i);
	finish_counters(c);
	/* relaxed: a session that reads it and tries again finds the lock taken until all is repaired */
	shared_add(control->n_repairs, 1);
	/* commit: release, after every store */
	__atomic_store_n(&control->rebuilding, 0, __ATOMIC_RELEASE);
}
