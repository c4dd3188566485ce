// SPDX-License-Identifier: MIT
/*
 * The objects that a worker holds, and what it expects of them
 *
 * An object is completed before another process can see it, and never changed afterwards: bytes whose contents can be
 * verified, lists and nodes with all slots filled. Only the roots change. So every process that gets an object can
 * verify it; and as a child always exists before its parent, there are no cycles.
 */
#include "storm.h"

#include <errno.h>
#include <string.h>

#define CHILDREN_MAX 6U
#define DEPTH_MAX    3U

/* ---- verifying ---- */

static uint64_t verify_at(struct worker *worker, pyheap_ref ref, unsigned int depth);

static uint64_t verify_bytes(struct worker *worker, pyheap_ref ref, size_t size)
{
	const uint8_t *data = pyheap_data(worker->heap, ref);
	uint64_t key = 0;

	if (!data)
		worker_fault(worker, "pyheap_data(%#llx): %s", (unsigned long long)ref, strerror(errno));
	if (!pattern_check(data, size, ref, &key))
		worker_fault(worker, "the contents of %#llx, %zu bytes, are not what was put there",
			(unsigned long long)ref, size);
	return key;
}

/* A child lives as long as its parent, which somebody holds: it can be verified without a hold of its own. */
static uint64_t verify_child(struct worker *worker, pyheap_ref parent, pyheap_ref child, unsigned int depth)
{
	if (!child)
		worker_fault(worker, "a slot of %#llx is empty", (unsigned long long)parent);
	if (depth < DEPTH_MAX)
		verify_at(worker, child, depth + 1);
	return child;
}

static uint64_t verify_slots(struct worker *worker, pyheap_ref ref, size_t n, unsigned int depth)
{
	const uint64_t *slots = pyheap_data(worker->heap, ref);
	uint64_t key = n;

	if (!slots)
		worker_fault(worker, "pyheap_data(%#llx): %s", (unsigned long long)ref, strerror(errno));
	for (size_t i = 0; i < n; i++)
		key = key * 31 + verify_child(worker, ref, slots[i], depth);
	return key;
}

static uint64_t verify_at(struct worker *worker, pyheap_ref ref, unsigned int depth)
{
	pyheap_type type;
	size_t size;

	CALL(worker, MAY_NOTHING, pyheap_typeof(worker->heap, ref, &type));
	size = (size_t)CALL(worker, MAY_NOTHING, pyheap_size(worker->heap, ref));
	worker->report->n_verified++;
	if (type == PYHEAP_BYTES)
		return verify_bytes(worker, ref, size);
	if (type == PYHEAP_LIST)
		return verify_slots(worker, ref, size / 8, depth);
	if (type == worker->node) {
		const uint64_t *words = pyheap_data(worker->heap, ref);

		if (!words || size != NODE_SIZE || words[1] != ref)
			worker_fault(worker, "the node %#llx is not what was put there", (unsigned long long)ref);
		verify_child(worker, ref, words[NODE_SLOT_A / 8], depth);
		verify_child(worker, ref, words[NODE_SLOT_B / 8], depth);
		return words[0];
	}
	worker_fault(worker, "%#llx is of type %u", (unsigned long long)ref, type);
}

uint64_t verify(struct worker *worker, pyheap_ref ref)
{
	return verify_at(worker, ref, 0);
}

/* ---- keeping ---- */

struct kept *random_kept(struct worker *worker)
{
	struct kept *kept = &worker->kept[random_below(&worker->random, N_KEPT)];

	return kept->ref ? kept : NULL;
}

static struct kept *find_kept(struct worker *worker, pyheap_ref ref)
{
	for (size_t i = 0; i < N_KEPT; i++)
		if (worker->kept[i].ref == ref)
			return &worker->kept[i];
	return NULL;
}

void keep(struct worker *worker, pyheap_ref ref)
{
	struct kept *kept = find_kept(worker, ref);
	uint64_t key = verify(worker, ref);

	if (kept) {
		if (kept->key != key)
			worker_fault(worker, "%#llx, which is held, has become another", (unsigned long long)ref);
		kept->n_holds++;
		return;
	}
	kept = &worker->kept[random_below(&worker->random, N_KEPT)];
	if (kept->ref)
		drop(worker, kept);
	*kept = (struct kept){.ref = ref, .key = key, .n_holds = 1};
}

void drop(struct worker *worker, struct kept *kept)
{
	pyheap_ref ref = kept->ref;

	for (; kept->n_holds; kept->n_holds--)
		CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, ref));
	kept->ref = 0;
	worker->stale[random_below(&worker->random, N_STALE)] = ref;
}

static void drop_roots(struct worker *worker, size_t n, pyheap_ref *refs)
{
	for (size_t i = 0; i < n; i++)
		CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, refs[i]));
}

void drop_all(struct worker *worker)
{
	for (size_t i = 0; i < N_KEPT; i++) {
		if (!worker->kept[i].ref)
			continue;
		if (verify(worker, worker->kept[i].ref) != worker->kept[i].key)
			worker_fault(worker, "%#llx has become another", (unsigned long long)worker->kept[i].ref);
		drop(worker, &worker->kept[i]);
	}
	drop_roots(worker, N_LISTS, worker->lists);
	drop_roots(worker, N_QUEUES, worker->queues);
	drop_roots(worker, N_NODES, worker->nodes);
}

/* ---- making ---- */

size_t random_size(struct worker *worker)
{
	uint64_t kind = random_below(&worker->random, 100);

	if (kind < 3)
		return 1 + random_below(&worker->random, (size_t)1536 << 10);
	if (kind < 15)
		return 1 + random_below(&worker->random, (size_t)100 << 10);
	return random_below(&worker->random, 513);
}

/* -ENOMEM for a small object is a fault while the daemon runs and memory is not full. */
static void judge_lack(struct worker *worker, size_t size)
{
	if (size <= 512 && !shared->is_full && call_was_calm(worker))
		worker_fault(worker, "there was no memory for %zu bytes, and it is not full", size);
}

pyheap_ref make_bytes(struct worker *worker, size_t size, uint64_t key)
{
	pyheap_ref ref;
	uint8_t *data;

	if (CALL(worker, MAY_LACK, pyheap_new(worker->heap, PYHEAP_BYTES, size, &ref)) < 0) {
		judge_lack(worker, size);
		return 0;
	}
	worker->report->n_grown += size > (size_t)256 << 10;
	data = pyheap_data(worker->heap, ref);
	if (!data)
		worker_fault(worker, "pyheap_data of a new object: %s", strerror(errno));
	pattern_fill(data, size, key, ref);
	return ref;
}

static pyheap_ref put_bytes(struct worker *worker)
{
	uint8_t data[1024];
	size_t size = random_below(&worker->random, sizeof(data));
	pyheap_ref ref;

	pattern_fill(data, size, random_next(&worker->random), 0);
	if (CALL(worker, MAY_LACK, pyheap_put(worker->heap, data, size, &ref)) < 0)
		return 0;
	return ref;
}

/* Fill a slot with an object that is held anyway, or with a new one, which then only the slot holds. */
static bool fill_slot(struct worker *worker, pyheap_ref parent, size_t i, bool is_list)
{
	struct kept *kept = random_kept(worker);
	pyheap_ref child = kept ? kept->ref : make_bytes(worker, random_below(&worker->random, 200), i);

	if (!child)
		return false;
	if (is_list)
		CALL(worker, MAY_NOTHING, pyheap_list_set(worker->heap, parent, i, child));
	else
		CALL(worker, MAY_NOTHING, pyheap_slot_set(worker->heap, parent, i, child));
	if (!kept)
		CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, child));
	return true;
}

static pyheap_ref make_list(struct worker *worker)
{
	size_t n = random_below(&worker->random, CHILDREN_MAX);
	pyheap_ref list;

	if (CALL(worker, MAY_LACK, pyheap_list_new(worker->heap, n, &list)) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		if (!fill_slot(worker, list, i, true)) {
			CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, list));
			return 0;
		}
	}
	return list;
}

static pyheap_ref make_node(struct worker *worker)
{
	pyheap_ref node;
	uint64_t *words;

	if (CALL(worker, MAY_LACK, pyheap_new(worker->heap, worker->node, 0, &node)) < 0)
		return 0;
	words = pyheap_data(worker->heap, node);
	if (!words)
		worker_fault(worker, "pyheap_data of a new node: %s", strerror(errno));
	words[0] = random_next(&worker->random);
	words[1] = node;
	if (!fill_slot(worker, node, NODE_SLOT_A, false) || !fill_slot(worker, node, NODE_SLOT_B, false)) {
		CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, node));
		return 0;
	}
	return node;
}

void make_something(struct worker *worker)
{
	uint64_t kind = random_below(&worker->random, 20);
	pyheap_ref ref;

	if (kind < 2)
		ref = make_list(worker);
	else if (kind < 3)
		ref = make_node(worker);
	else if (kind < 6)
		ref = put_bytes(worker);
	else
		ref = make_bytes(worker, random_size(worker), random_next(&worker->random));
	if (ref)
		keep(worker, ref);
}
