// SPDX-License-Identifier: MIT
/*
 * Arenas in advance
 *
 * What a session was granted and has not taken into use nobody else can have. A user may have a number of such arenas
 * (--user-arenas), so that no user has all memory by asking alone. Here they are counted, run by run.
 *
 * That a run is in use the session says in the arena table, without notifying the daemon. So the runs are examined
 * again, a few with each request and each tick, and those that are in use are forgotten. Until then they count. What is
 * just being mapped counts, too.
 *
 * A client that writes to the arena table can say that a run is in use which is not. It may as well make objects there:
 * the limit is about memory that nobody uses. Whose arenas they are the daemon's own file says (heap/shared/truth.c).
 */
#include "daemon/advance.h"

#include <errno.h>
#include <stdlib.h>

void advance_init(struct advance *advance, struct user *user, uint32_t index)
{
	*advance = (struct advance){.user = user && !user_is_trusted(user->uid) ? user : NULL, .index = index};
}

static int make_room(struct advance *advance, uint32_t n_runs)
{
	uint32_t n = advance->n_runs + n_runs;
	struct advance_run *runs;

	if (n <= advance->n_allocated)
		return 0;
	if (n < 2 * advance->n_allocated)
		n = 2 * advance->n_allocated;
	runs = reallocarray(advance->runs, n, sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	advance->runs = runs;
	advance->n_allocated = n;
	return 0;
}

int advance_promise(struct advance *advance, uint32_t n_runs, uint64_t n_arenas)
{
	int r;

	if (!advance->user)
		return 0;
	r = make_room(advance, n_runs);
	if (r < 0)
		return r;
	advance->user->n_in_advance += n_arenas - advance->n_promised;
	advance->n_promised = n_arenas;
	return 0;
}

void advance_add(struct advance *advance, const struct heap *heap, uint32_t head)
{
	struct advance_run run = {head, heap_run_length(heap, head)};

	if (!advance->user || advance->n_runs == advance->n_allocated || run.n_arenas > advance->n_promised)
		return;
	advance->runs[advance->n_runs++] = run;
	advance->n_promised -= run.n_arenas;
}

static bool is_in_advance(const struct advance *advance, const struct heap *heap, uint32_t head)
{
	return truth_arena_state(heap->truth, head) == TRUTH_THERE &&
	       heap->truth->arenas[head].session1 == advance->index + 1 &&
	       arena_state(&heap->arenas[head]) == ARENA_GRANTED;
}

static void forget(struct advance *advance, uint32_t i)
{
	advance->user->n_in_advance -= advance->runs[i].n_arenas;
	advance->runs[i] = advance->runs[--advance->n_runs];
}

void advance_look(struct advance *advance, const struct heap *heap, uint32_t n_runs)
{
	if (n_runs > advance->n_runs)
		n_runs = advance->n_runs;
	for (; n_runs > 0; n_runs--) {
		if (advance->next >= advance->n_runs)
			advance->next = 0;
		if (is_in_advance(advance, heap, advance->runs[advance->next].head))
			advance->next++;
		else
			forget(advance, advance->next);
	}
}

void advance_clear(struct advance *advance)
{
	advance_promise(advance, 0, 0);
	while (advance->n_runs > 0)
		forget(advance, advance->n_runs - 1);
	free(advance->runs);
	advance->runs = NULL;
	advance->n_allocated = advance->next = 0;
}
