/* SPDX-License-Identifier: MIT */
/*
 * Arenas: memory that comes from the system and goes back to it
 *
 * Only the daemon maps and returns arenas, and it needs the lock for neither: HOLE -> MAPPING -> GRANTED and RETURNING
 * -> HOLE are its own. A session takes what it was granted into use under the lock; the daemon takes what is wholly
 * free off the lists under the lock (arena_pick_returning()), and only then unmaps it and punches its hole.
 *
 * Memory is allocated (posix_fallocate) before anybody is told of it, for the arena and for its entries: a full
 * /dev/shm is an error of the daemon's and never a SIGBUS in a client.
 *
 * usable_arenas is CPython's: doubly linked, ascending by how free an arena is, so that new pools come from the fullest
 * and the emptier ones can become wholly free. Where CPython goes by the number of free pools, this goes by its eighths
 * (arena_rank()), with what is wholly free last of all: among many arenas that take and give pools in turn each pool
 * would change the order, and so (of 64 pools in an arena) one in eight does. rank2lasta[rank], CPython's nfp2lasta, is
 * the last arena of a rank, by which one whose rank changed finds its new place without walking the list. An arena
 * without a free pool is not on it. What an arena has free is said by a bitmap, its freepools: the lowest free pool is
 * taken first, and a run of adjacent ones is found by looking at a few words.
 *
 * Died after ...                the next daemon does ...
 *   reserving, while mapping      MAPPING: punches, HOLE (arena_adopt_all())
 *   granting, session dead too    GRANTED to a session that is FREE: punches, HOLE (the same)
 *   picking, unmapping, punching  RETURNING: does it again; the head turns HOLE last (arena_next_returning()). Not
 * before it has had the lock: the picking may not be committed, and whoever has the lock now may be about to take it
 * back
 */

#include "heap/memory/arena.h"
#include "heap/shared/critical.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define ENTRIES_PER_STEP (UINT64_C(4) << 20) /* bytes of pool entries that are allocated in one step */
#define WALK_MAX                                                                                                       \
	16U /* arenas looked at for a run of pools, from either end, and runs for one of arenas, before fresh memory   \
	       is wanted */
#define PASS_MAX 256U /* arenas passed on the way that have too few */

/* ---- the daemon's side ------------------------------------------------------------------------------------------- */

/* Only the daemon calls this; release: whoever sees the state sees the memory and the entries behind it. */
static void state_store(struct arena_entry *arena, enum arena_state state)
{
	__atomic_store_n(&arena->state, (uint32_t)state, __ATOMIC_RELEASE);
}

static int allocate(int fd, uint64_t offset, uint64_t size)
{
	int r;

	do
		r = posix_fallocate(fd, (off_t)offset, (off_t)size);
	while (r == EINTR);
	return r == ENOSPC ? -ENOMEM : -r;
}

/* Make entries readable up to arena n, exclusive: their pages are allocated before n_arenas_known says so. */
static int extend_arena_entries(struct heap *heap, uint32_t n)
{
	struct control *c = heap->control;
	uint32_t seen = c->n_arenas_known;
	uint32_t words = heap->pool_words;
	int r;

	if (n <= seen)
		return 0;
	r = allocate(heap->control_fd, c->arenas_off + (uint64_t)seen * sizeof(struct arena_entry),
		(uint64_t)(n - seen) * sizeof(struct arena_entry));
	if (!r)
		r = allocate(heap->control_fd, c->freepools_off + (uint64_t)seen * words * 8,
			(uint64_t)(n - seen) * words * 8);
	if (!r)
		__atomic_store_n(&c->n_arenas_known, n, __ATOMIC_RELEASE); /* the pages before their number */
	return r;
}

static uint32_t find_holes(const struct heap *heap, uint32_t n)
{
	uint32_t seen = heap->control->n_arenas_known;
	uint32_t run = 0;

	for (uint32_t i = heap->first_hole; i < heap->n_arenas; i++) {
		if (i >= seen || arena_state(&heap->arenas[i]) == ARENA_HOLE)
			run++;
		else
			run = 0;
		if (run == n)
			return i + 1 - n;
	}
	return UINT32_MAX;
}

int arena_reserve(struct heap *heap, uint32_t index, uint32_t n, uint32_t *ret)
{
	uint32_t head;
	int r;

	if (!n || n > heap->n_arenas)
		return -ENOMEM;
	head = find_holes(heap, n);
	if (head == UINT32_MAX)
		return -ENOMEM;
	r = extend_arena_entries(heap, head + n);
	if (r < 0)
		return r;
	/* relaxed: who counts arenas without the lock may have seen what was there before */
	__atomic_store_n(&heap->arenas[head].n_arenas, n, __ATOMIC_RELAXED);
	__atomic_store_n(&heap->arenas[head].session1, index + 1, __ATOMIC_RELAXED);
	state_store(&heap->arenas[head], ARENA_MAPPING);
	for (uint32_t i = head + 1; i < head + n; i++)
		state_store(&heap->arenas[i], ARENA_BODY);
	if (head == heap->first_hole)
		heap->first_hole = head + n;
	*ret = head;
	return 0;
}

/*
 * Forget what the pools' headers and free lists were of: their memory is fresh. Member by member, since the generation
 * must be there at every moment: a daemon that is killed here must not let old refs come true again. Relaxed: whoever
 * has an old ref may be looking whose pool it is of, and who counts the pools may have seen the arena as it was.
 */
static void pools_reset(struct heap *heap, uint32_t arena)
{
	struct pool_entry *pool = &heap->pools[arena * heap->pools_per_arena];

	for (uint32_t i = 0; i < heap->pools_per_arena; i++, pool++) {
		__atomic_store_n(&pool->kind, (uint8_t)POOL_FREE, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->size_class, (uint8_t)CLASS_NONE, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->n_used, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->n_carved, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->freeblock1, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->next1, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&pool->prev1, 0, __ATOMIC_RELAXED);
	}
}

static int arena_map(struct heap *heap, uint32_t i)
{
	uint64_t off = (uint64_t)i << heap->arena_shift;
	uint64_t pools_size = heap->pools_per_arena * sizeof(struct pool_entry);
	int r;

	r = allocate(heap->control_fd, heap->control->pools_off + i * pools_size, pools_size);
	if (!r)
		r = allocate(heap->heap_fd, off, heap->arena_size);
	if (r < 0)
		return r;
	if (mmap(heap->base + off, heap->arena_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, heap->heap_fd,
		    (off_t)off) == MAP_FAILED)
		return -errno;
	pools_reset(heap, i);
	return 0;
}

/*
 * Make pool entries readable up to arena n, exclusive: as extend_arena_entries(). Those of arenas below that could not
 * be mapped, or are just being mapped, may be missing, and be many: a part of them at a time. 1 all are there.
 */
static int extend_pool_entries_step(struct heap *heap, uint32_t n)
{
	struct control *c = heap->control;
	uint64_t size = heap->pools_per_arena * sizeof(struct pool_entry);
	uint32_t n_step = (uint32_t)(ENTRIES_PER_STEP / size), seen = c->n_arenas_mapped;
	int r;

	if (n <= seen)
		return 1;
	if (n_step > n - seen)
		n_step = n - seen;
	r = allocate(heap->control_fd, c->pools_off + seen * size, n_step * size);
	if (r < 0)
		return r;
	__atomic_store_n(&c->n_arenas_mapped, seen + n_step, __ATOMIC_RELEASE); /* the pages before their number */
	return seen + n_step == n;
}

int arena_map_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done)
{
	uint32_t n = heap->arenas[head].n_arenas;
	int r;

	for (; *n_done < n && n_step > 0; ++*n_done, n_step--) {
		r = arena_map(heap, head + *n_done);
		if (r < 0)
			return r;
	}
	if (*n_done < n)
		return 0;
	r = extend_pool_entries_step(heap, head + n);
	if (r <= 0)
		return r;
	state_store(&heap->arenas[head], ARENA_GRANTED);
	return 1;
}

/* The window keeps its place: what was mapped there gives way to an empty mapping, which unmaps it. */
static int arena_unmap(struct heap *heap, uint32_t i)
{
	uint64_t off = (uint64_t)i << heap->arena_shift;

	if (mmap(heap->base + off, heap->arena_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		    -1, 0) == MAP_FAILED)
		return -errno;
	if (fallocate(heap->heap_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, heap->arena_size) < 0)
		return -errno;
	return 0;
}

/*
 * From the last arena to the head, whose n_arenas shrinks with it: a HOLE may be reserved anew before the head is one,
 * and must not be taken for the run's by a daemon that finds it RETURNING.
 */
int arena_unmap_step(struct heap *heap, uint32_t head, uint32_t n_step, uint32_t *n_done)
{
	struct arena_entry *arena = &heap->arenas[head];

	for (; n_step > 0; n_step--) {
		uint32_t last = arena->n_arenas ? head + arena->n_arenas - 1 : head;
		int r;

		r = arena_unmap(heap, last);
		if (r < 0)
			return r;
		++*n_done;
		if (last < heap->first_hole)
			heap->first_hole = last;
		if (last == head)
			arena->session1 = 0;
		state_store(&heap->arenas[last], ARENA_HOLE);
		/* release: after the state; died before it, the next daemon returns that HOLE once more, before any
		 * other use */
		if (last != head)
			__atomic_store_n(&arena->n_arenas, arena->n_arenas - 1, __ATOMIC_RELEASE);
		else
			return 1;
	}
	return 0;
}

bool arena_has_lookup(struct heap *heap, uint32_t head)
{
	uint32_t n = heap->arenas[head].n_arenas;

	return critical_has_lookup(heap, head, n ? n : 1);
}

static bool is_left_over(const struct heap *heap, const struct arena_entry *arena)
{
	uint32_t session = arena->session1 - 1; /* none: wraps to the largest */

	switch (arena->state) {
	case ARENA_MAPPING:
		return true;
	case ARENA_GRANTED:
		return session >= heap->n_sessions || heap->sessions[session].state == SESSION_FREE;
	default:
		return false;
	}
}

static int return_whole_run(struct heap *heap, uint32_t head)
{
	uint32_t n_done = 0;
	int r;

	if (heap->arenas[head].n_arenas > heap->n_arenas - head)
		return -EUCLEAN;
	state_store(&heap->arenas[head], ARENA_RETURNING);
	r = arena_unmap_step(heap, head, UINT32_MAX, &n_done);
	return r < 0 ? r : 0;
}

int arena_adopt_all(struct heap *heap)
{
	int r;

	for (uint32_t i = 0; i < heap->control->n_arenas_known; i++) {
		if (!is_left_over(heap, &heap->arenas[i]))
			continue;
		r = return_whole_run(heap, i);
		if (r < 0)
			return r;
	}
	return 0;
}

int arena_next_returning(struct session *daemon, uint32_t *cursor, uint32_t *ret)
{
	struct heap *heap = daemon->heap;
	int r;

	if (!*cursor) {
		r = change_try_begin(daemon);
		if (r < 0)
			return r;
		change_end(daemon, 0); /* no change that may be taken back says so of any now */
	}
	while (*cursor < heap->control->n_arenas_known)
		if (arena_state(&heap->arenas[(*cursor)++]) == ARENA_RETURNING) {
			*ret = *cursor - 1;
			return 1;
		}
	return 0;
}

int arena_pick_granted(struct session *daemon, uint32_t index, bool has_lock, uint32_t *ret)
{
	struct heap *heap = daemon->heap;
	int r;

	r = change_try_begin(daemon);
	if (r == 0)
		change_end(daemon, 0);
	/* Who asks to be resumed while it has the lock is between two changes. */
	else if (r != -EBUSY || !has_lock)
		return r;
	/* No owner's change is pending any more, so nobody but this daemon writes the state of what is GRANTED to the
	 * session. */
	for (uint32_t i = 0; i < heap->control->n_arenas_known; i++) {
		if (arena_state(&heap->arenas[i]) != ARENA_GRANTED || heap->arenas[i].session1 != index + 1)
			continue;
		state_store(&heap->arenas[i], ARENA_RETURNING);
		*ret = i;
		return 1;
	}
	return 0;
}

/* ---- the order of usable_arenas ---------------------------------------------------------------------------------- */

static struct arena_entry *arena_at1(struct heap *heap, uint32_t index1)
{
	return index1 && index1 <= arenas_known(heap) && index1 <= heap->n_arenas ? &heap->arenas[index1 - 1] : NULL;
}

static uint32_t arena_index(const struct heap *heap, const struct arena_entry *arena)
{
	return (uint32_t)(arena - heap->arenas);
}

static struct space *space_of(struct heap *heap, uint32_t space)
{
	return &heap->control->spaces[space & 1];
}

static uint32_t rank_of(const struct heap *heap, const struct arena_entry *arena)
{
	return arena_rank(heap, arena->n_free_pools);
}

/* The last usable arena of at most that rank; 0: none. Its successor is the first of a higher one. */
static uint32_t last_up_to(const struct space *space, uint32_t rank)
{
	while (rank > 0 && !space->rank2lasta1[rank])
		rank--;
	return rank ? space->rank2lasta1[rank] : 0;
}

/* Put an arena that is on no list where its rank belongs. */
static void usable_link(struct heap *heap, struct space *space, struct arena_entry *arena)
{
	uint32_t index1 = arena_index(heap, arena) + 1;
	uint32_t prev1 = last_up_to(space, rank_of(heap, arena));
	struct arena_entry *prev = arena_at1(heap, prev1);
	uint32_t next1 = prev ? prev->next1 : space->usable_arenas1;
	struct arena_entry *next = arena_at1(heap, next1);

	heap_set(heap, &arena->prev1, prev1);
	heap_set(heap, &arena->next1, next1);
	if (prev)
		heap_set(heap, &prev->next1, index1);
	else
		heap_set(heap, &space->usable_arenas1, index1);
	if (next)
		heap_set(heap, &next->prev1, index1);
	heap_set(heap, &space->rank2lasta1[rank_of(heap, arena)], index1);
}

static void usable_unlink(struct heap *heap, struct space *space, struct arena_entry *arena)
{
	struct arena_entry *prev = arena_at1(heap, arena->prev1);
	struct arena_entry *next = arena_at1(heap, arena->next1);
	uint32_t rank = rank_of(heap, arena);

	if (space->rank2lasta1[rank] == arena_index(heap, arena) + 1)
		heap_set(heap, &space->rank2lasta1[rank], prev && rank_of(heap, prev) == rank ? arena->prev1 : 0);
	if (prev)
		heap_set(heap, &prev->next1, arena->next1);
	else
		heap_set(heap, &space->usable_arenas1, arena->next1);
	if (next)
		heap_set(heap, &next->prev1, arena->prev1);
	heap_set(heap, &arena->next1, 0);
	heap_set(heap, &arena->prev1, 0);
}

/* The number of free pools of an arena changes, and where its rank does its place. */
static void free_pools_change(struct heap *heap, struct arena_entry *arena, uint32_t n_free_pools)
{
	struct space *space = space_of(heap, arena->space);
	uint32_t old = rank_of(heap, arena), new = arena_rank(heap, n_free_pools);

	if (old == new) {
		heap_set(heap, &arena->n_free_pools, n_free_pools);
		return;
	}
	if (old)
		usable_unlink(heap, space, arena);
	if (old == RANK_FREE)
		heap_add(heap, &space->n_free_arenas, -1);
	heap_set(heap, &arena->n_free_pools, n_free_pools);
	if (new)
		usable_link(heap, space, arena);
	if (new == RANK_FREE)
		heap_add(heap, &space->n_free_arenas, 1);
}

/* ---- freepools --------------------------------------------------------------------------------------------------- */

/* The first of n adjacent free pools of the bitmap, or UINT32_MAX. */
static uint32_t freepools_find(const uint64_t *words, uint32_t n_pools, uint32_t n)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < n_pools; i++) {
		if (!(i & 63) && !words[i / 64]) { /* a word with none free */
			run = 0;
			i += 63;
			continue;
		}
		if (!run && n == 1 && (words[i / 64] >> (i & 63)))
			return i + (uint32_t)__builtin_ctzll(words[i / 64] >> (i & 63));
		run = words[i / 64] >> (i & 63) & 1 ? run + 1 : 0;
		if (run == n)
			return i + 1 - n;
	}
	return UINT32_MAX;
}

static void freepools_set(struct heap *heap, uint64_t *words, uint32_t first, uint32_t n, bool free)
{
	if (n == 1) { /* most often */
		uint64_t *word = &words[first / 64], mask = UINT64_C(1) << (first & 63);

		heap_set(heap, word, free ? *word | mask : *word & ~mask);
		return;
	}
	while (n > 0) {
		uint32_t bit = first & 63;
		uint32_t n_here = n < 64 - bit ? n : 64 - bit;
		uint64_t mask = (n_here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n_here) - 1) << bit;
		uint64_t *word = &words[first / 64];

		heap_set(heap, word, free ? *word | mask : *word & ~mask);
		first += n_here;
		n -= n_here;
	}
}

static uint64_t *freepools_of(struct heap *heap, const struct arena_entry *arena)
{
	return &heap->freepools[arena_index(heap, arena) * heap->pool_words];
}

/* ---- within a change --------------------------------------------------------------------------------------------- */

static int wants(struct session *session, uint32_t n, bool run, enum space_kind space)
{
	session->n_wanted_arenas = n;
	session->wants_run = run;
	session->wants_space = space;
	return HEAP_WANTS_ARENAS;
}

/* From an arena on, towards the fuller or the emptier ones: look for n adjacent free pools in WALK_MAX that have so
 * many. NULL: there were none; *arena is the one to go on with. */
static struct arena_entry *walk(struct heap *heap, struct arena_entry **arena, bool fuller, uint32_t n, uint32_t *ret)
{
	uint32_t n_examined = 0;

	for (uint32_t i = 0; *arena && i < PASS_MAX && n_examined < WALK_MAX; i++) {
		struct arena_entry *one = *arena;

		*arena = arena_at1(heap, fuller ? one->prev1 : one->next1);
		if (one->n_free_pools < n)
			continue;
		*ret = freepools_find(freepools_of(heap, one), heap->pools_per_arena, n);
		if (*ret != UINT32_MAX)
			return one;
		n_examined++;
	}
	return NULL;
}

/*
 * n adjacent free pools, at least 1: of the fullest arenas that have so many, a bounded number of them, and at last of
 * the emptiest. The first ones are of the rank of n, and may have fewer.
 */
static struct arena_entry *find_pools(struct heap *heap, struct space *space, uint32_t n, uint32_t *ret)
{
	struct arena_entry *before = arena_at1(heap, last_up_to(space, arena_rank(heap, n) - 1));
	struct arena_entry *next = arena_at1(heap, before ? before->next1 : space->usable_arenas1);
	struct arena_entry *found = walk(heap, &next, false, n, ret);

	if (found || !next) /* or all were seen */
		return found;
	next = arena_at1(heap, last_up_to(space, RANK_FREE));
	return walk(heap, &next, true, n, ret);
}

/* A wholly free arena of the other space can change sides. */
static struct arena_entry *convert_arena(struct heap *heap, enum space_kind to)
{
	struct space *from = space_of(heap, 1U - to);
	struct arena_entry *arena = arena_at1(heap, from->rank2lasta1[RANK_FREE]);

	if (!arena)
		return NULL;
	free_pools_change(heap, arena, 0);
	heap_set(heap, &arena->space, to);
	free_pools_change(heap, arena, heap->pools_per_arena);
	return arena;
}

int arena_take_pools(struct session *session, enum space_kind space, uint32_t n, uint32_t *ret)
{
	struct heap *heap = session->heap;
	struct arena_entry *arena;
	uint32_t first = 0;

	arena = find_pools(heap, space_of(heap, space), n, &first);
	if (!arena) {
		arena = convert_arena(heap, space);
		if (!arena)
			return wants(session, 1, false, space);
		first = 0;
	}
	if (arena_state(arena) != ARENA_POOLS || arena->n_free_pools < n || arena->n_free_pools > heap->pools_per_arena)
		return -EUCLEAN;
	freepools_set(heap, freepools_of(heap, arena), first, n, false);
	free_pools_change(heap, arena, arena->n_free_pools - n);
	*ret = arena_index(heap, arena) * heap->pools_per_arena + first;
	return 0;
}

int arena_give_pools(struct session *session, uint32_t first, uint32_t n)
{
	struct heap *heap = session->heap;
	struct arena_entry *arena = arena_at1(heap, (first >> (heap->arena_shift - POOL_SHIFT)) + 1);

	if (!arena || arena_state(arena) != ARENA_POOLS || arena->n_free_pools + n > heap->pools_per_arena)
		return -EUCLEAN;
	freepools_set(heap, freepools_of(heap, arena), first & (heap->pools_per_arena - 1), n, true);
	free_pools_change(heap, arena, arena->n_free_pools + n);
	return 0;
}

/* The counters follow arenas that come into use. */
static void count_arenas(struct heap *heap, uint32_t n)
{
	struct counters *c = &heap->control->counters;

	heap_add(heap, &c->n_arenas_allocated, n);
	heap_add(heap, &c->n_arenas_current, n);
	if (c->n_arenas_current > c->n_arenas_highwater)
		heap_set(heap, &c->n_arenas_highwater, c->n_arenas_current);
}

static void returnable_link(struct heap *heap, struct arena_entry *arena)
{
	uint32_t *head1 = &heap->control->returnable_arenas1;
	struct arena_entry *next = arena_at1(heap, *head1);

	heap_set(heap, &arena->state, ARENA_RETURNABLE);
	heap_set(heap, &arena->prev1, 0);
	heap_set(heap, &arena->next1, *head1);
	if (next)
		heap_set(heap, &next->prev1, arena_index(heap, arena) + 1);
	heap_set(heap, head1, arena_index(heap, arena) + 1);
}

static void returnable_unlink(struct heap *heap, struct arena_entry *arena)
{
	struct arena_entry *prev = arena_at1(heap, arena->prev1);
	struct arena_entry *next = arena_at1(heap, arena->next1);

	if (prev)
		heap_set(heap, &prev->next1, arena->next1);
	else
		heap_set(heap, &heap->control->returnable_arenas1, arena->next1);
	if (next)
		heap_set(heap, &next->prev1, arena->prev1);
	heap_set(heap, &arena->next1, 0);
	heap_set(heap, &arena->prev1, 0);
}

/* The run that was granted to this session and not used yet, or NULL. */
static struct arena_entry *granted_run(struct session *session)
{
	struct arena_entry *arena = arena_at1(session->heap, session->granted_run1);

	return arena && arena_state(arena) == ARENA_GRANTED && arena->session1 == session->index + 1 ? arena : NULL;
}

/* One that was granted for an object which in the end was not made. */
static void put_granted_run_back(struct session *session)
{
	struct arena_entry *arena = granted_run(session);

	if (!arena)
		return;
	count_arenas(session->heap, arena->n_arenas);
	returnable_link(session->heap, arena);
}

static int accept_in_change(struct session *session, struct arena_entry *arena)
{
	struct heap *heap = session->heap;

	if (!arena)
		return -EINVAL;
	if (arena_state(arena) != ARENA_GRANTED || arena->session1 != session->index + 1)
		return -EPERM;
	if (session->wants_run || arena->n_arenas != 1) {
		put_granted_run_back(session);
		session->granted_run1 = arena_index(heap, arena) + 1;
		return 0;
	}
	heap_set(heap, &arena->state, ARENA_POOLS);
	heap_set(heap, &arena->space, session->wants_space & 1);
	heap_set(heap, &arena->n_free_pools, 0);
	freepools_set(heap, freepools_of(heap, arena), 0, heap->pools_per_arena, true);
	free_pools_change(heap, arena, heap->pools_per_arena);
	count_arenas(heap, 1);
	return 0;
}

int arena_accept(struct session *session, uint32_t head)
{
	int r;

	if (head >= session->heap->n_arenas)
		return -EINVAL;
	r = change_begin(session);
	if (r < 0)
		return r;
	return change_end(session, accept_in_change(session, arena_at1(session->heap, head + 1)));
}

static struct arena_entry *take_granted_run(struct session *session, uint32_t n)
{
	struct arena_entry *arena = granted_run(session);

	if (!arena || arena->n_arenas != n)
		return NULL;
	count_arenas(session->heap, n);
	return arena;
}

static struct arena_entry *take_returnable_run(struct heap *heap, uint32_t n)
{
	struct arena_entry *arena = arena_at1(heap, heap->control->returnable_arenas1);

	for (uint32_t i = 0; arena && i < WALK_MAX; i++, arena = arena_at1(heap, arena->next1)) {
		if (arena->n_arenas != n || arena_state(arena) != ARENA_RETURNABLE)
			continue;
		returnable_unlink(heap, arena);
		return arena;
	}
	return NULL;
}

int arena_take_run(struct session *session, uint32_t n, enum space_kind space, uint32_t *ret_head)
{
	struct heap *heap = session->heap;
	struct arena_entry *arena = take_granted_run(session, n);

	if (!arena)
		arena = take_returnable_run(heap, n);
	if (!arena)
		return wants(session, n, true, space);
	heap_set(heap, &arena->state, ARENA_RUN);
	heap_set(heap, &arena->space, space);
	*ret_head = arena_index(heap, arena);
	return 0;
}

int arena_give_run(struct session *session, uint32_t head)
{
	struct arena_entry *arena = arena_at1(session->heap, head + 1);

	if (!arena || arena_state(arena) != ARENA_RUN)
		return -EUCLEAN;
	returnable_link(session->heap, arena);
	return 0;
}

/* ---- what can go ------------------------------------------------------------------------------------------------- */

static struct arena_entry *pick(struct heap *heap, uint32_t n_spare)
{
	struct arena_entry *arena = arena_at1(heap, heap->control->returnable_arenas1);

	if (arena) {
		returnable_unlink(heap, arena);
		return arena;
	}
	if (heap->control->spaces[SPACE_OBJECTS].n_free_arenas + heap->control->spaces[SPACE_RECORDS].n_free_arenas <=
		n_spare)
		return NULL;
	arena = arena_at1(heap, heap->control->spaces[SPACE_RECORDS].rank2lasta1[RANK_FREE]);
	if (!arena)
		arena = arena_at1(heap, heap->control->spaces[SPACE_OBJECTS].rank2lasta1[RANK_FREE]);
	if (!arena)
		return NULL;
	free_pools_change(heap, arena, 0);
	return arena;
}

int arena_pick_returning(struct session *daemon, uint32_t n_spare, uint32_t *ret)
{
	struct heap *heap = daemon->heap;
	struct counters *c = &heap->control->counters;
	struct arena_entry *arena;
	int r;

	r = change_try_begin(daemon);
	if (r < 0)
		return r;
	arena = pick(heap, n_spare);
	if (!arena)
		return change_end(daemon, 0);
	*ret = arena_index(heap, arena);
	heap_set(heap, &arena->state, ARENA_RETURNING);
	heap_add(heap, &c->n_arenas_current, -(int64_t)arena->n_arenas);
	heap_add(heap, &c->n_arenas_reclaimed, arena->n_arenas);
	r = change_end(daemon, 0);
	return r < 0 ? r : 1;
}
