// SPDX-License-Identifier: MIT
/*
 * The operations of which a worker makes random ones: on its own objects, on the shared roots, and on the heap as a
 * whole. Each is a few calls, between any two of which another process may change what is shared.
 */
#include "storm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 30

static pyheap_ref random_of(struct worker *worker, size_t n, const pyheap_ref *refs)
{
	return refs[random_below(&worker->random, n)];
}

/* With the lock a worker must not wait, as all others would wait for it. */
static int random_timeout(struct worker *worker)
{
	return worker->has_lock || random_below(&worker->random, 4) ? 0 : WAIT_MS;
}

/* ---- own objects ---- */

static void do_make(struct worker *worker)
{
	make_something(worker);
}

static void do_drop(struct worker *worker)
{
	struct kept *kept = random_kept(worker);

	if (kept)
		drop(worker, kept);
}

static void do_hold(struct worker *worker)
{
	struct kept *kept = random_kept(worker);

	if (!kept)
		return;
	if (kept->n_holds > 1 && random_below(&worker->random, 2)) {
		CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, kept->ref));
		kept->n_holds--;
	} else {
		CALL(worker, MAY_NOTHING, pyheap_incref(worker->heap, kept->ref));
		kept->n_holds++;
	}
}

static void do_verify(struct worker *worker)
{
	struct kept *kept = random_kept(worker);
	int64_t n;

	if (!kept)
		return;
	if (verify(worker, kept->ref) != kept->key)
		worker_fault(worker, "%#llx, which is held, has become another", (unsigned long long)kept->ref);
	n = CALL(worker, MAY_NOTHING, pyheap_refcount(worker->heap, kept->ref));
	if (n < kept->n_holds)
		worker_fault(worker, "%#llx is held %u times here, and counts %lld", (unsigned long long)kept->ref,
			kept->n_holds, (long long)n);
}

/* A dropped object is gone, or others still hold it; its ref never names another object. */
static void do_stale(struct worker *worker)
{
	pyheap_ref ref = worker->stale[random_below(&worker->random, N_STALE)];

	if (ref && CALL(worker, MAY_GONE | MAY_LACK, pyheap_incref(worker->heap, ref)) == 0)
		keep(worker, ref);
}

/* ---- lists, nodes and names ---- */

static void do_list_set(struct worker *worker)
{
	struct kept *kept = random_kept(worker);
	pyheap_ref list = random_of(worker, N_LISTS, worker->lists);
	size_t i = random_below(&worker->random, LIST_SLOTS);

	CALL(worker, MAY_NOTHING, pyheap_list_set(worker->heap, list, i, kept ? kept->ref : 0));
}

static void do_list_get(struct worker *worker)
{
	pyheap_ref list = random_of(worker, N_LISTS, worker->lists), ref;
	size_t i = random_below(&worker->random, LIST_SLOTS);

	if (CALL(worker, MAY_LACK, pyheap_list_get(worker->heap, list, i, &ref)) == 0 && ref)
		keep(worker, ref);
}

static void do_slot_set(struct worker *worker)
{
	struct kept *kept = random_kept(worker);
	pyheap_ref node = random_of(worker, N_NODES, worker->nodes);
	size_t offset = random_below(&worker->random, 2) ? NODE_SLOT_A : NODE_SLOT_B;

	CALL(worker, MAY_NOTHING, pyheap_slot_set(worker->heap, node, offset, kept ? kept->ref : 0));
}

static void do_slot_get(struct worker *worker)
{
	pyheap_ref node = random_of(worker, N_NODES, worker->nodes), ref;
	size_t offset = random_below(&worker->random, 2) ? NODE_SLOT_A : NODE_SLOT_B;

	if (CALL(worker, MAY_LACK, pyheap_slot_get(worker->heap, node, offset, &ref)) == 0 && ref)
		keep(worker, ref);
}

static void random_name(struct worker *worker, char ret[64])
{
	uint64_t i = random_below(&worker->random, N_NAMES);

	/* Of several lengths, so that they are of several size classes. */
	snprintf(ret, 64, "name %llu%.*s", (unsigned long long)i, (int)(i % 4 * 10),
		"........................................");
}

static void do_name_set(struct worker *worker)
{
	struct kept *kept = random_kept(worker);
	char name[64];

	random_name(worker, name);
	if (kept)
		CALL(worker, MAY_LACK, pyheap_name_set(worker->heap, name, kept->ref));
}

static void do_name_get(struct worker *worker)
{
	pyheap_ref ref;
	char name[64];

	random_name(worker, name);
	if (CALL(worker, MAY_MISS | MAY_LACK, pyheap_name_get(worker->heap, name, &ref)) == 0)
		keep(worker, ref);
}

static void do_name_del(struct worker *worker)
{
	char name[64];

	random_name(worker, name);
	CALL(worker, MAY_MISS, pyheap_name_del(worker->heap, name));
}

/* ---- queues ---- */

static void do_push(struct worker *worker)
{
	struct kept *kept = random_kept(worker);
	pyheap_ref queue = random_of(worker, N_QUEUES, worker->queues);
	int timeout_ms = random_timeout(worker);

	if (!kept || CALL(worker, MAY_WAIT, pyheap_queue_push(worker->heap, queue, kept->ref, timeout_ms)) < 0)
		return;
	kept->n_holds--;
	if (!kept->n_holds)
		kept->ref = 0;
}

static void do_pop(struct worker *worker)
{
	pyheap_ref queue = random_of(worker, N_QUEUES, worker->queues), ref;
	int timeout_ms = random_timeout(worker);

	if (CALL(worker, MAY_WAIT | MAY_LACK, pyheap_queue_pop(worker->heap, queue, &ref, timeout_ms)) == 0)
		keep(worker, ref);
}

static void receive(struct worker *worker, pyheap_ref sent, pyheap_ref got)
{
	if (got != sent || CALL(worker, MAY_NOTHING, pyheap_refcount(worker->heap, got)) != 1)
		worker_fault(worker, "%#llx went in and %#llx came out, or with other rights", (unsigned long long)sent,
			(unsigned long long)got);
	verify(worker, got);
	CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, got));
	if (pyheap_size(worker->heap, got) != -ESTALE)
		worker_fault(worker, "%#llx is there after its last right went", (unsigned long long)got);
}

/* An object that only this worker holds goes through a new queue, and comes out with the one right that went in. */
static void do_hand_over(struct worker *worker)
{
	pyheap_ref queue, ref, got;
	uint64_t key = random_next(&worker->random);

	if (CALL(worker, MAY_LACK, pyheap_queue_new(worker->heap, 1, &queue)) < 0)
		return;
	ref = make_bytes(worker, 1 + random_below(&worker->random, 600), key);
	if (ref) {
		CALL(worker, MAY_NOTHING, pyheap_queue_push(worker->heap, queue, ref, 0));
		if (pyheap_decref(worker->heap, ref) != -EPERM)
			worker_fault(worker, "%#llx is held still after it was handed over", (unsigned long long)ref);
		if (CALL(worker, MAY_LACK, pyheap_queue_pop(worker->heap, queue, &got, 0)) == 0)
			receive(worker, ref, got);
	}
	CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, queue));
}

/* ---- the heap as a whole ---- */

static void do_stats(struct worker *worker)
{
	pyheap_stats s;
	uint64_t total;

	CALL(worker, MAY_NOTHING, pyheap_stats(worker->heap, &s));
	total = s.bytes_allocated_blocks + s.bytes_available_blocks + s.bytes_unused_pools + s.bytes_pool_headers +
		s.bytes_quantization + s.bytes_medium_objects + s.bytes_large_objects + s.bytes_records;
	if (total != s.bytes_total || s.bytes_total != s.n_arenas_current * s.arena_size)
		worker_fault(worker, "the bytes add up to %llu, in %llu arenas", (unsigned long long)total,
			(unsigned long long)s.n_arenas_current);
}

static void do_clients(struct worker *worker)
{
	pyheap_client_info info;
	uint64_t cursor = 0;
	int n_self = 0;

	while (CALL(worker, MAY_NOTHING, pyheap_client_next(worker->heap, &cursor, &info)) == 1)
		n_self += info.self && info.pid == getpid() && !info.dead;
	if (n_self != 1)
		worker_fault(worker, "it is %d times in the table of sessions", n_self);
}

static void do_names(struct worker *worker)
{
	char name[PYHEAP_NAME_MAX + 1];
	uint64_t cursor = 0;
	pyheap_ref ref;
	unsigned int n_roots = 0;

	while (CALL(worker, MAY_NOTHING, pyheap_name_next(worker->heap, &cursor, name, &ref)) == 1)
		n_roots += strncmp(name, "name ", 5) != 0;
	if (n_roots != N_LISTS + N_QUEUES + N_NODES)
		worker_fault(worker, "%u of the roots have their name", n_roots);
}

static void say_fault(void *userdata, const char *fault)
{
	(void)userdata;
	storm_fault("pyheap_check: %s", fault);
}

static void do_check(struct worker *worker)
{
	if (CALL(worker, MAY_NOTHING, pyheap_check(worker->heap, say_fault, NULL)) > 0)
		worker_fault(worker, "the heap is damaged");
}

static void do_repair(struct worker *worker)
{
	if (CALL(worker, MAY_NOTHING, pyheap_repair(worker->heap, say_fault, NULL)) > 0)
		worker_fault(worker, "the heap was damaged");
}

static void do_dispatch(struct worker *worker)
{
	CALL(worker, MAY_LACK, pyheap_dispatch(worker->heap));
}

/* Some sessions are closed in order, with all that they hold or after they have dropped it. */
static void do_reopen(struct worker *worker)
{
	if (random_below(&worker->random, 2))
		drop_all(worker);
	worker_close(worker);
	worker_open(worker);
}

static void do_some_with_the_lock(struct worker *worker);

/* ---- the choice ---- */

struct op {
	void (*run)(struct worker *worker);
	unsigned int weight;
	bool is_short; /* it may be done with the lock */
};

static const struct op ops[] = {
	{do_make, 160, true},
	{do_drop, 100, true},
	{do_hold, 60, true},
	{do_verify, 60, true},
	{do_stale, 40, true},
	{do_list_set, 80, true},
	{do_list_get, 80, true},
	{do_slot_set, 30, true},
	{do_slot_get, 30, true},
	{do_name_set, 50, true},
	{do_name_get, 50, true},
	{do_name_del, 20, true},
	{do_push, 60, true},
	{do_pop, 60, true},
	{do_hand_over, 30, true},
	{do_stats, 4, true},
	{do_clients, 2, false},
	{do_names, 2, false},
	{do_dispatch, 4, true},
	{do_some_with_the_lock, 20, false},
	{do_reopen, 1, false},
	{do_check, 1, true},
	{do_repair, 1, true},
};

static const struct op *random_op(struct worker *worker)
{
	uint64_t total = 0, at;
	size_t i;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].weight;
	at = random_below(&worker->random, total);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	return &ops[i];
}

/* All others now wait for the lock, until the daemon evicts this worker. */
static void stop_where_asked(struct worker *worker)
{
	uint32_t asked = STOP_ASKED;

	if (__atomic_compare_exchange_n(
		    &worker->report->stops_itself, &asked, STOP_DONE, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		raise(SIGSTOP);
}

static void do_some_with_the_lock(struct worker *worker)
{
	CALL(worker, MAY_NOTHING, pyheap_lock(worker->heap));
	worker->has_lock = true;
	stop_where_asked(worker);
	for (uint64_t n = random_below(&worker->random, 6); n > 0; n--) {
		const struct op *op = random_op(worker);

		if (op->is_short)
			op->run(worker);
	}
	CALL(worker, MAY_NOTHING, pyheap_unlock(worker->heap));
	worker->has_lock = false;
}

void worker_step(struct worker *worker)
{
	random_op(worker)->run(worker);
}
