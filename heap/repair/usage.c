// SPDX-License-Identifier: MIT
/*
 * What memory each session has
 *
 * Whose an arena is the daemon's truth says: it was granted to a session, by its number of admission, and stays that
 * session's until it goes back to the system, also where others make objects in it later. No client can change that.
 *
 * Which pools and runs a session owns the control segment says. Each field is read once, relaxed, and checked; the walk
 * ends after all arenas that there are, whatever is written there.
 */
#include "heap/repair/usage.h"

#define POOLS_PER_STEP 4096U

/* The session that an arena was granted to; NULL: it has ended. */
static struct session_usage *granted_to(const struct heap *heap, uint32_t a, struct session_usage *usage)
{
	const struct truth_arena *arena = &heap->truth->arenas[a];
	uint32_t index = arena->session1 - 1; /* none wraps to the largest */
	const struct truth_session *session = &heap->truth->sessions[index < heap->n_sessions ? index : 0];

	return index < heap->n_sessions && session->state != SESSION_FREE && session->admission == arena->admission
		       ? &usage[index]
		       : NULL;
}

static void add_bytes(const struct heap *heap, uint32_t owner1, uint64_t n, struct session_usage *usage)
{
	if (owner1 && owner1 <= heap->n_sessions && session_state_at(heap, owner1 - 1) != SESSION_FREE)
		usage[owner1 - 1].n_bytes += n;
}

/* The pools of an arena. */
static void count_pools(const struct heap *heap, uint32_t a, struct session_usage *usage)
{
	const struct pool_entry *pools = &heap->pools[(uint64_t)a * heap->pools_per_arena];
	uint32_t n;

	for (uint32_t i = 0; i < heap->pools_per_arena; i += n) {
		uint32_t identity = __atomic_load_n(&pools[i].identity, __ATOMIC_RELAXED);

		n = 1;
		if ((identity & 0xff) == POOL_RUN)
			n = __atomic_load_n(&pools[i].run_n_pools, __ATOMIC_RELAXED);
		if (n < 1 || n > heap->pools_per_arena - i)
			n = 1;
		if ((identity & 0xff) != POOL_FREE)
			add_bytes(heap, identity >> 16, (uint64_t)n * POOL_SIZE, usage);
	}
}

/*
 * What begins at this arena. Returns how many arenas it takes. Those that are THERE are counted one by one, since their
 * runs are the clients'; how long a run is that a session owns its head alone says, and a scribbled one says wrong.
 */
static uint32_t count_arena(const struct heap *heap, uint32_t a, struct session_usage *usage)
{
	uint32_t state = truth_arena_state(heap->truth, a), n = 1;
	struct session_usage *session;

	if (state == TRUTH_HOLE || state == TRUTH_BODY)
		return 1;
	if (state != TRUTH_THERE)
		n = heap_run_length(heap, a);
	session = granted_to(heap, a, usage);
	if (session)
		session->n_arenas += n;
	if (state != TRUTH_THERE || !arena_is_there(heap, a))
		return n;
	if (arena_state(&heap->arenas[a]) == ARENA_POOLS)
		count_pools(heap, a, usage);
	else if (arena_state(&heap->arenas[a]) == ARENA_RUN)
		add_bytes(heap,
			__atomic_load_n(&heap->pools[(uint64_t)a * heap->pools_per_arena].owner1, __ATOMIC_RELAXED),
			(uint64_t)heap_run_length(heap, a) << heap->arena_shift, usage);
	return n;
}

bool heap_usage_step(const struct heap *heap, uint32_t *cursor, struct session_usage *usage)
{
	uint32_t n_step = heap->pools_per_arena < POOLS_PER_STEP ? POOLS_PER_STEP / heap->pools_per_arena : 1;
	uint32_t n_known = arenas_known(heap);

	for (; n_step > 0 && *cursor < n_known; n_step--)
		*cursor += count_arena(heap, *cursor, usage);
	return *cursor < n_known;
}
