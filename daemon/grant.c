// SPDX-License-Identifier: MIT
/*
 * Grants: memory for a session that asks for it
 *
 * A grant is made of runs of adjacent arenas. Each is reserved (without the lock: arenas that are not there are the
 * daemon's own), allocated and mapped in steps, and then belongs to the session, which takes it into use itself.
 *
 * Single arenas come in batches, doubled with each request that follows soon, so that a session that grows pays few
 * round trips and one that needs a little gets a little. As many as are welcome (n_runs), never more.
 *
 * When memory is short, what is there already is granted. If that is nothing, arenas that are empty but kept as spare
 * ones are returned, and the request is tried again. Returning needs the lock, which is tried for PATIENCE_MS; not if
 * the session that asks has it itself, since that would be waiting for itself. After that the answer is ENOMEM.
 */
#include "daemon/grant.h"
#include "heap/change/supply.h"

#include "daemon/clock.h"
#include "daemon/daemon.h"
#include "daemon/log.h"

#include <errno.h>
#include <string.h>

#define ARENAS_PER_STEP 16U
#define PATIENCE_MS     100
#define SOON_MS         1000

static int grant_finish(struct member *member)
{
	struct grant *grant = &member->grant;
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Grant body = PYHEAP__GRANT__INIT;

	grant->is_active = false;
	grant->last_ms = now_ms();
	if (grant->run_length == 1)
		member->daemon->returns.n_granted += (uint32_t)grant->n_heads;
	if (!member->client)
		return 0; /* what was granted stays so, until the session resumes or dies */
	body.heads = grant->heads;
	body.n_heads = grant->n_heads;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_GRANT;
	message.grant = &body;
	client_send(member->client, &message, NULL, 0);
	return 0;
}

static int grant_refuse(struct member *member, const char *text)
{
	member->grant.is_active = false;
	if (member->client)
		client_refuse(member->client, ENOMEM, text);
	return 0;
}

static uint32_t batch_size(struct grant *grant, uint32_t n_runs)
{
	if (grant->run_length > 1)
		return 1;
	if (!grant->n_batch || now_ms() - grant->last_ms > SOON_MS)
		grant->n_batch = 1;
	else if (grant->n_batch < GRANT_RUNS_MAX)
		grant->n_batch *= 2;
	return n_runs < grant->n_batch ? n_runs : grant->n_batch;
}

void grant_request(struct client *client, const Pyheap__GrantRequest *request)
{
	struct member *member = client->member;
	struct grant *grant = &member->grant;

	if (grant->is_active) {
		client_fail(client, EBADMSG, "asked for memory while its request before was under way");
		return;
	}
	if (!request->run_length || !request->n_runs) {
		client_fail(client, EBADMSG, "asked for no memory");
		return;
	}
	*grant = (struct grant){
		.is_active = true,
		.run_length = request->run_length,
		.n_batch = grant->n_batch,
		.last_ms = grant->last_ms,
	};
	grant->n_wanted = batch_size(grant, request->n_runs);
	if (request->run_length > client->daemon->heap->n_arenas)
		grant_refuse(member, "that is more than the whole heap");
	else
		work_add(client->daemon, member);
}

void grant_cancel(struct member *member)
{
	struct grant *grant = &member->grant;

	if (grant->is_active && grant->mapping1)
		member->unmapping = (struct unmapping){.head1 = grant->mapping1};
	*grant = (struct grant){0};
}

static bool has_lock(struct daemon *daemon, const struct member *member)
{
	return __atomic_load_n(&daemon->heap->control->lock.owner1, __ATOMIC_RELAXED) == member->index + 1;
}

/* There is no memory for one more run. */
static int grant_short(struct daemon *daemon, struct member *member)
{
	struct grant *grant = &member->grant;
	int r;

	if (grant->n_heads)
		return grant_finish(member);
	if (!grant->give_up_ms)
		grant->give_up_ms = now_ms() + PATIENCE_MS;
	r = returns_step(daemon, 0);
	if (r > 0) {
		grant->is_short = daemon->returns.unmapping.head1 != 0; /* not before the whole run is there again */
		return 1;
	}
	if (r == -EBUSY && !has_lock(daemon, member) && now_ms() < grant->give_up_ms)
		return -EBUSY;
	return grant_refuse(member, "the heap, or the machine's shared memory, is full");
}

/* Reserve a run, or map a part of the one that is reserved. */
static int grant_go_on(struct daemon *daemon, struct member *member, uint32_t n)
{
	struct grant *grant = &member->grant;
	uint32_t head;
	int r;

	if (!grant->mapping1) {
		r = supply_reserve(daemon->heap, member->index, grant->run_length, &head);
		if (r < 0)
			return r;
		grant->mapping1 = head + 1;
		grant->n_mapped = 0;
	}
	head = grant->mapping1 - 1;
	r = supply_map_step(daemon->heap, head, n, &grant->n_mapped);
	if (r == 0)
		return 0;
	if (r > 0)
		grant->heads[grant->n_heads++] = head;
	else
		member->unmapping = (struct unmapping){.head1 = head + 1};
	grant->mapping1 = 0;
	return r;
}

int grant_step(struct daemon *daemon, struct member *member)
{
	struct grant *grant = &member->grant;
	uint32_t n_per_turn = grant->run_length < ARENAS_PER_STEP ? ARENAS_PER_STEP / grant->run_length : 1;
	int r = unmapping_step(daemon, &member->unmapping);

	if (r)
		return r;
	if (grant->is_short)
		return grant_short(daemon, member);
	for (uint32_t i = 0; i < n_per_turn; i++) {
		r = grant_go_on(daemon, member, ARENAS_PER_STEP);
		if (r < 0) {
			grant->is_short = true;
			return 1;
		}
		if (r == 0)
			return 1;
		if (grant->n_heads == grant->n_wanted)
			return grant_finish(member);
	}
	return 1;
}
