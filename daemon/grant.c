// SPDX-License-Identifier: MIT
/*
 * Grants: memory for a session that asks for it
 *
 * A grant is made of runs of adjacent arenas. Each run is reserved (without the lock, since arenas that are not there
 * are the daemon's own), then allocated and mapped in steps. It then belongs to the session, which takes it into use.
 *
 * Single arenas are granted in batches. A batch is twice the last one if its request follows soon, so that a session
 * that grows pays few round trips and a session that needs little gets little. It is never more than was asked for.
 *
 * A user may have --user-arenas that its sessions do not use (advance.c). A batch is at most half of what is left of
 * that, so that a user's sessions share it. Where nothing is left a request waits for PATIENCE_MS, as sessions most
 * often take at once into use what they were granted.
 *
 * The memory cgroup of the daemon may have less room than /dev/shm; it is asked before each step (cgroup.c).
 *
 * When memory is short, what is mapped already is granted. If that is nothing, the spare empty arenas are returned, and
 * the request is tried again. Returning needs the lock, which is tried for PATIENCE_MS; but not if the session that
 * asks has the lock, as the daemon would then wait for the session that waits for the daemon. After that the answer is
 * ENOMEM.
 *
 * What was granted and never taken into use is taken back when the session dies or is resumed: it is unmapped, run by
 * run. If this daemon dies in between, the next one finds the runs in the arena table and does the rest.
 */
#include "daemon/grant.h"

#include "daemon/cgroup.h"
#include "daemon/clock.h"
#include "heap/change/full.h"
#include "heap/change/lock_report.h"
#include "heap/change/supply.h"

#include <errno.h>

#define ARENAS_PER_STEP 16U
#define PATIENCE_MS     100
#define SOON_MS         1000
#define LOOKS_PER_STEP  32U /* runs in advance */
#define LOOKS_PER_TICK  256U

void grant_init(struct grant *grant, struct trim *trim, uint32_t index, struct user *user)
{
	*grant = (struct grant){.trim = trim, .index = index};
	advance_init(&grant->advance, user, index);
}

void grant_deinit(struct grant *grant)
{
	advance_clear(&grant->advance);
}

static struct heap *heap_of(const struct grant *grant)
{
	return grant->trim->self->heap;
}

/* ---- granting -------------------------------------------------------------------------------------------------- */

static uint32_t batch_size(struct grant *grant, uint32_t run_length, uint32_t n_runs)
{
	if (run_length > 1)
		return 1;
	if (!grant->n_batch || now_ms() - grant->last_ms > SOON_MS)
		grant->n_batch = 1;
	else if (grant->n_batch < GRANT_RUNS_MAX)
		grant->n_batch *= 2;
	return n_runs < grant->n_batch ? n_runs : grant->n_batch;
}

int grant_begin(struct grant *grant, uint32_t run_length, uint32_t n_runs)
{
	if (!run_length || !n_runs)
		return -EINVAL;
	grant->request = (struct grant_request){
		.is_active = run_length <= heap_of(grant)->n_arenas,
		.run_length = run_length,
		.n_wanted = batch_size(grant, run_length, n_runs),
	};
	return grant->request.is_active ? 0 : -ENOMEM;
}

bool grant_is_active(const struct grant *grant)
{
	return grant->request.is_active;
}

static int finish(struct grant *grant)
{
	grant->request.is_active = false;
	grant->last_ms = now_ms();
	return 0;
}

/* 0 the user may have what is asked for, or a part of it; -EDQUOT, or -EBUSY: not yet. */
static int be_within_limit(struct grant *grant)
{
	const struct user *user = grant->advance.user;
	struct grant_request *request = &grant->request;
	uint64_t left, n;

	if (!user || request->is_within)
		return 0;
	advance_look(&grant->advance, heap_of(grant), LOOKS_PER_STEP);
	left = user->all->limits.n_arenas;
	left = left > user->n_in_advance ? left - user->n_in_advance : 0;
	n = request->run_length > 1 ? left / request->run_length : (left + 1) / 2;
	if (n > 0) {
		if (request->n_wanted > n)
			request->n_wanted = (uint32_t)n;
		request->is_within = true;
		return advance_promise(
			&grant->advance, request->n_wanted, (uint64_t)request->n_wanted * request->run_length);
	}
	if (!request->give_up_ms)
		request->give_up_ms = now_ms() + PATIENCE_MS;
	if (request->run_length <= user->all->limits.n_arenas && now_ms() < request->give_up_ms)
		return -EBUSY;
	return -EDQUOT;
}

static bool has_lock(const struct grant *grant)
{
	return lock_owner1(heap_of(grant)) == grant->index + 1;
}

/* There is no memory for one more run. */
static int make_room(struct grant *grant)
{
	struct grant_request *request = &grant->request;
	int r;

	if (request->n_heads)
		return finish(grant);
	if (!request->give_up_ms)
		request->give_up_ms = now_ms() + PATIENCE_MS;
	r = trim_step_for_need(grant->trim);
	if (r > 0) {
		request->is_short = trim_is_at_work(grant->trim); /* not before the whole run is there again */
		return 1;
	}
	if (r == -EBUSY && !has_lock(grant) && now_ms() < request->give_up_ms)
		return -EBUSY;
	if (r == 0 && request->has_no_room)
		full_begins(heap_of(grant), request->run_length);
	request->is_active = false;
	return -ENOMEM;
}

/* The kernel would not refuse what is beyond the memory cgroup's limit, but kill for it. */
static bool has_room_for_step(const struct grant *grant)
{
	uint32_t n = grant->request.run_length - grant->request.n_mapped;
	uint64_t size = (uint64_t)(n < ARENAS_PER_STEP ? n : ARENAS_PER_STEP) * heap_of(grant)->arena_size;

	return size <= cgroup_memory_room();
}

/* Reserve a run, or map a part of the one that is reserved. 1 the run is granted, 0 there is more to map of it. */
static int map_run(struct grant *grant)
{
	struct grant_request *request = &grant->request;
	uint32_t head;
	int r;

	if (!request->mapping1) {
		r = supply_reserve(heap_of(grant), grant->index, request->run_length, &head);
		request->has_no_room = r < 0;
		if (r < 0)
			return r;
		request->mapping1 = head + 1;
		request->n_mapped = 0;
	}
	head = request->mapping1 - 1;
	r = has_room_for_step(grant) ? supply_map_step(heap_of(grant), head, ARENAS_PER_STEP, &request->n_mapped)
				     : -ENOMEM;
	if (r == 0)
		return 0;
	if (r > 0) {
		request->heads[request->n_heads++] = head;
		advance_add(&grant->advance, heap_of(grant), head);
	} else {
		grant->run = (struct trim_run){.head1 = head + 1};
	}
	request->mapping1 = 0;
	return r;
}

static int step(struct grant *grant)
{
	struct grant_request *request = &grant->request;
	uint32_t n_per_turn = request->run_length < ARENAS_PER_STEP ? ARENAS_PER_STEP / request->run_length : 1;
	int r = trim_run_step(heap_of(grant), &grant->run);

	if (r)
		return r;
	r = be_within_limit(grant);
	if (r < 0) {
		request->is_active = r == -EBUSY;
		return r;
	}
	if (request->is_short)
		return make_room(grant);
	for (uint32_t i = 0; i < n_per_turn; i++) {
		r = map_run(grant);
		if (r < 0) {
			request->is_short = true;
			return 1;
		}
		if (r == 0)
			return 1;
		if (request->n_heads == request->n_wanted)
			return finish(grant);
	}
	return 1;
}

int grant_step(struct grant *grant)
{
	int r = step(grant);

	if (!grant->request.is_active)
		advance_promise(&grant->advance, 0, 0);
	return r;
}

/* ---- taking back ----------------------------------------------------------------------------------------------- */

void grant_cancel(struct grant *grant)
{
	if (grant->request.is_active && grant->request.mapping1)
		grant->run = (struct trim_run){.head1 = grant->request.mapping1};
	grant->request = (struct grant_request){0};
	advance_promise(&grant->advance, 0, 0);
	grant->n_batch = 0;
	grant->last_ms = 0;
	grant->is_taken_back = false;
}

/*
 * Nothing is taken back before it is known what the daemon before left RETURNING. A session that keeps the lock cannot
 * wait for that: all of its runs are unmapped here and now, so that the two kinds cannot be mixed up.
 */
int grant_take_back(struct grant *grant, bool has_lock)
{
	uint32_t head;
	int r = has_lock ? 0 : trim_adopt(grant->trim);

	if (r < 0)
		return r;
	do
		r = trim_run_step(heap_of(grant), &grant->run);
	while (r > 0 && has_lock);
	if (r || grant->is_taken_back)
		return r;
	r = supply_pick_granted(grant->trim->self, grant->index, has_lock, &head);
	if (r > 0)
		grant->run = (struct trim_run){.head1 = head + 1};
	if (r == 0) {
		grant->is_taken_back = true;
		advance_clear(&grant->advance);
	}
	return r;
}

void grant_tick(struct grant *grant)
{
	advance_look(&grant->advance, heap_of(grant), LOOKS_PER_TICK);
}
