// SPDX-License-Identifier: MIT
/*
 * A random test against a plain model
 *
 * Several sessions make, hold, drop, link, name and hand over objects at random. A model in ordinary arrays says what
 * must come of it: each call's result, each object's count, each payload's bytes, each session's holds. There are
 * remote frees, which the owners collect or the daemon's trim does. Every now and then the whole heap is checked, a
 * session dies (also in a critical section, or closing) and is reclaimed, arenas are unmapped. At the end everything is
 * dropped, and then nothing must be left.
 *
 * $PYHEAP_TEST_SEED repeats a run, $PYHEAP_TEST_OPS makes it shorter. An object may only be put into a younger one,
 * unless it has no slots: so there are no cycles, which counting would not find.
 */
#include "tests/unit/heap/fixture.h"

#include <inttypes.h>
#include <stdio.h>

enum {
	N_OBJECTS = 3000, /* at most at one time */
	N_SLOTS = 200,    /* of a list, or places of a queue, at most */
	N_NAMES = 100,
	N_DEAD = 256, /* refs remembered of what is gone */
	STRUCT_SIZE = 48,
	CHECK_EVERY = 5000,
};

static const size_t struct_slots[] = {8, 32};

struct model_object {
	uint64_t ref; /* 0: none */
	uint64_t serial;
	uint64_t size;
	uint32_t type;
	uint32_t n_slots;        /* of lists, structs and queues */
	uint32_t head, n_queued; /* of queues */
	uint32_t n_rights;       /* slots, places and names that have it */
	uint32_t n_holds[FIXTURE_SESSIONS];
	uint32_t slots1[N_SLOTS]; /* which object is in it, plus one */
};

static struct model_object objects[N_OBJECTS];
static uint32_t names1[N_NAMES];
static uint64_t dead_refs[N_DEAD];
static uint64_t n_made, n_gone, n_live, op_number;
static uint32_t struct_type;

/* The model. */

static int64_t model_count(const struct model_object *o)
{
	int64_t n = o->n_rights;

	for (uint32_t s = 0; s < FIXTURE_SESSIONS; s++)
		n += o->n_holds[s];
	return n;
}

/* Where its count is 0 the object goes, and with it its rights to others. */
static void model_settle(uint32_t i)
{
	struct model_object *o = &objects[i];

	if (model_count(o))
		return;
	dead_refs[n_gone++ % N_DEAD] = o->ref;
	o->ref = 0;
	n_live--;
	for (uint32_t k = 0; k < o->n_slots; k++) {
		if (!o->slots1[k])
			continue;
		objects[o->slots1[k] - 1].n_rights--;
		model_settle(o->slots1[k] - 1);
	}
}

static void model_put(uint32_t *slot1, uint32_t child1)
{
	uint32_t old1 = *slot1;

	*slot1 = child1;
	if (child1)
		objects[child1 - 1].n_rights++;
	if (!old1)
		return;
	objects[old1 - 1].n_rights--;
	model_settle(old1 - 1);
}

static bool may_hold(const struct model_object *parent, const struct model_object *child)
{
	return child->type == TYPE_BYTES || child->serial < parent->serial;
}

static uint32_t any_object(void)
{
	return fixture_below(N_OBJECTS);
}

/* One that is there and of that type (0: any), or NULL where none was met. */
static struct model_object *pick(uint32_t type)
{
	for (int i = 0; i < 200; i++) {
		struct model_object *o = &objects[any_object()];

		if (o->ref && (!type || o->type == type))
			return o;
	}
	return NULL;
}

/* One that the session holds. */
static struct model_object *pick_held(const struct session *s)
{
	for (int i = 0; i < 200; i++) {
		struct model_object *o = &objects[any_object()];

		if (o->ref && o->n_holds[s->index])
			return o;
	}
	return NULL;
}

static uint32_t index1_of(const struct model_object *o)
{
	return (uint32_t)(o - objects) + 1;
}

/* Contents. */

static uint8_t pattern(const struct model_object *o, uint64_t at)
{
	return (uint8_t)(o->serial * 31 + at * 7 + (at >> 8));
}

/* Small ones whole, large ones here and there and at both ends. */
static uint64_t next_at(const struct model_object *o, uint64_t at)
{
	if (o->size <= 600 || at < 16 || at + 17 >= o->size)
		return at + 1;
	return at + 1 + o->size / 50 < o->size - 16 ? at + 1 + o->size / 50 : o->size - 16;
}

static bool is_slot(const struct model_object *o, uint64_t at)
{
	return o->type != TYPE_BYTES && (o->type != struct_type || at / 8 == 1 || at / 8 == 4);
}

static void fill_contents(const struct model_object *o)
{
	for (uint64_t at = 0; at < o->size; at = next_at(o, at))
		if (!is_slot(o, at))
			ref_data(o->ref)[at] = pattern(o, at);
}

static void compare_contents(const struct model_object *o)
{
	for (uint64_t at = 0; at < o->size; at = next_at(o, at))
		if (!is_slot(o, at) && ref_data(o->ref)[at] != pattern(o, at))
			ck_abort_msg("op %" PRIu64 ": byte %" PRIu64 " of %" PRIu64 " differs", op_number, at, o->size);
}

/* Operations. */

static void expect(int64_t want, int64_t is, const char *what)
{
	if (want != is)
		ck_abort_msg("op %" PRIu64 ": %s gives %" PRId64 ", should %" PRId64, op_number, what, is, want);
}

static size_t random_size(void)
{
	switch (fixture_below(100)) {
	case 0:
		return fixture_below(3 * ARENA_SIZE_DEFAULT);
	case 1 ... 4:
		return fixture_below(10 * POOL_SIZE);
	default:
		return fixture_below(560);
	}
}

static int make(struct session *s, struct model_object *o)
{
	o->n_slots = 0;
	switch (fixture_below(8)) {
	case 0:
		o->type = TYPE_LIST;
		o->n_slots = fixture_below(10) ? fixture_below(8) : fixture_below(N_SLOTS);
		o->size = 8 * o->n_slots;
		return CALL(s, object_new(s, TYPE_LIST, o->size, &o->ref));
	case 1:
		o->type = TYPE_QUEUE;
		o->n_slots = 1 + fixture_below(20);
		o->size = 0; /* its payload is not for users */
		return CALL(s, queue_new(s, o->n_slots, &o->ref));
	case 2:
		o->type = struct_type;
		o->n_slots = 2;
		o->size = STRUCT_SIZE + (fixture_below(5) ? 0 : fixture_below(1000));
		return CALL(s, object_new(s, struct_type, o->size, &o->ref));
	default:
		o->type = TYPE_BYTES;
		o->size = random_size();
		return CALL(s, object_new(s, TYPE_BYTES, o->size, &o->ref));
	}
}

static void op_new(struct session *s)
{
	struct model_object *o = &objects[any_object()];
	int r;

	if (o->ref)
		return;
	memset(o, 0, sizeof(*o));
	o->serial = ++n_made;
	r = make(s, o);
	if (r == -ENOMEM) {
		o->ref = 0;
		return;
	}
	expect(0, r, "new");
	o->n_holds[s->index] = 1;
	n_live++;
	fill_contents(o);
}

static void op_incref(struct session *s)
{
	struct model_object *o = pick(0);

	if (!o)
		return;
	expect(0, CALL(s, object_incref(s, o->ref)), "incref");
	o->n_holds[s->index]++;
}

/* More often than the header has room for. */
static void op_hold_often(struct session *s)
{
	struct model_object *o = pick_held(s);
	uint32_t n = 1 + fixture_below(300), n_dropped;

	if (!o)
		return;
	for (uint32_t i = 0; i < n; i++)
		expect(0, CALL(s, object_incref(s, o->ref)), "incref");
	o->n_holds[s->index] += n;
	expect(model_count(o), object_refcount(s, o->ref), "refcount");
	n_dropped = fixture_below(4) ? n : fixture_below(n);
	for (uint32_t i = 0; i < n_dropped; i++)
		expect(0, object_decref(s, o->ref), "decref");
	o->n_holds[s->index] -= n_dropped;
}

static void op_decref(struct session *s)
{
	struct model_object *o = fixture_below(2) ? pick_held(s) : pick(0);
	uint32_t n;

	if (!o)
		return;
	compare_contents(o);
	n = o->n_holds[s->index];
	expect(n ? 0 : -EPERM, object_decref(s, o->ref), "decref");
	if (!n)
		return;
	o->n_holds[s->index]--;
	model_settle(index1_of(o) - 1);
}

/* Made and dropped at once, as most objects are. */
static void op_new_and_drop(struct session *s)
{
	uint64_t refs[40];
	uint32_t n = 1 + fixture_below(40);
	size_t size = random_size() % (12 * POOL_SIZE);
	int r = 0;

	for (uint32_t i = 0; i < n; i++) {
		r = CALL(s, object_new(s, TYPE_BYTES, size, &refs[i]));
		if (r == -ENOMEM)
			n = i;
		else
			expect(0, r, "new");
	}
	for (uint32_t i = 0; i < n; i++) {
		expect(0, object_decref(s, refs[i]), "decref");
		expect(-ESTALE, object_decref(s, refs[i]), "decref of what is gone");
	}
}

/* Remote frees are collected by the owner, by a request or by itself, or by the daemon's trim. */
static void op_gather(struct session *s)
{
	if (fixture_below(2)) {
		critical_request(fx.heap, s->index, REQUEST_COLLECT);
		op_new_and_drop(s);
	} else if (fixture_below(2)) {
		expect(0, session_serve_requests(s), "serve");
	} else {
		int r = own_trim(&fx.daemon, s->index);

		ck_assert(s->has_lock ? r == -EBUSY : r == 0 || r == 1);
	}
}

static void op_dead_ref(struct session *s)
{
	uint64_t ref = dead_refs[fixture_below(N_DEAD)];

	if (ref) {
		expect(-ESTALE, CALL(s, object_incref(s, ref)), "incref of what is gone");
		expect(-ESTALE, object_decref(s, ref), "decref of what is gone");
		expect(-ESTALE, object_refcount(s, ref), "refcount of what is gone");
	}
}

static void op_slot_set(struct session *s)
{
	struct model_object *o = pick(fixture_below(2) ? TYPE_LIST : struct_type),
			    *child = fixture_below(4) ? pick(0) : NULL;
	uint32_t i;
	int r;

	if (!o || !o->n_slots || (child && !may_hold(o, child)))
		return;
	i = fixture_below(o->n_slots);
	if (o->type == TYPE_LIST)
		r = list_set(s, o->ref, i, child ? child->ref : 0);
	else
		r = slot_set(s, o->ref, struct_slots[i], child ? child->ref : 0);
	expect(0, r, "slot set");
	model_put(&o->slots1[i], child ? index1_of(child) : 0);
}

static void op_slot_get(struct session *s)
{
	struct model_object *o = pick(fixture_below(2) ? TYPE_LIST : struct_type);
	uint64_t got = 0;
	uint32_t i;

	if (!o || !o->n_slots)
		return;
	i = fixture_below(o->n_slots);
	if (o->type == TYPE_LIST)
		expect(0, CALL(s, list_get(s, o->ref, i, &got)), "list get");
	else
		expect(0, CALL(s, slot_get(s, o->ref, struct_slots[i], &got)), "slot get");
	ck_assert_uint_eq(got, o->slots1[i] ? objects[o->slots1[i] - 1].ref : 0);
	if (got)
		objects[o->slots1[i] - 1].n_holds[s->index]++;
}

static void op_push(struct session *s)
{
	struct model_object *o = pick(TYPE_QUEUE), *child = pick(0);
	int want = 0;

	if (!o || !child || !may_hold(o, child))
		return;
	if (!child->n_holds[s->index])
		want = -EPERM;
	else if (o->n_queued == o->n_slots)
		want = -EAGAIN;
	expect(want, queue_push(s, o->ref, child->ref, 0), "push");
	if (want)
		return;
	child->n_holds[s->index]--;
	child->n_rights++;
	o->slots1[(o->head + o->n_queued++) % o->n_slots] = index1_of(child);
}

static void op_pop(struct session *s)
{
	struct model_object *o = pick(TYPE_QUEUE), *child;
	uint64_t got;

	if (!o)
		return;
	expect(o->n_queued ? 0 : -EAGAIN, CALL(s, queue_pop(s, o->ref, &got, 0)), "pop");
	if (!o->n_queued)
		return;
	child = &objects[o->slots1[o->head] - 1];
	ck_assert_uint_eq(got, child->ref);
	child->n_rights--;
	child->n_holds[s->index]++;
	o->slots1[o->head] = 0;
	o->head = (o->head + 1) % o->n_slots;
	o->n_queued--;
}

static void name_of(uint32_t i, char ret[40])
{
	snprintf(ret, 40, "%s%u", i % 3 ? "n" : "a rather long name, number ", i);
}

static void op_name(struct session *s)
{
	uint32_t i = fixture_below(N_NAMES);
	struct model_object *o = pick(0);
	uint64_t got = 0;
	char name[40];
	int r;

	name_of(i, name);
	switch (fixture_below(3)) {
	case 0:
		if (!o)
			return;
		r = CALL(s, name_set(s, name, o->ref));
		if (r == -ENOMEM)
			return;
		expect(0, r, "name set");
		model_put(&names1[i], index1_of(o));
		return;
	case 1:
		expect(names1[i] ? 0 : -ENOENT, CALL(s, name_get(s, name, &got)), "name get");
		ck_assert_uint_eq(got, names1[i] ? objects[names1[i] - 1].ref : 0);
		if (names1[i])
			objects[names1[i] - 1].n_holds[s->index]++;
		return;
	default:
		expect(names1[i] ? 0 : -ENOENT, CALL(s, name_del(s, name)), "name del");
		model_put(&names1[i], 0);
	}
}

static void op_look(struct session *s)
{
	struct model_object *o = pick(0);
	struct object object;

	if (!o)
		return;
	compare_contents(o);
	expect(model_count(o), object_refcount(s, o->ref), "refcount");
	expect(0, object_lookup(s, o->ref, &object), "look");
	ck_assert_uint_eq(object.type, o->type);
	if (o->type != TYPE_QUEUE)
		ck_assert_uint_eq(object.size, o->size);
}

/*
 * It dies in a drop of a shared object: it holds it no more, and has not settled yet whether that was the last right.
 */
static void let_go_of_one(struct session *s)
{
	for (uint32_t i = 0; i < N_OBJECTS; i++) {
		struct object_header *header = objects[i].ref ? ref_header(objects[i].ref) : NULL;

		if (!header || ref_pool(objects[i].ref)->owner1 != s->owner1 || header_own(header->word) != 1)
			continue;
		header->word--;
		s->entry->n_own_holds--;
		return;
	}
}

/*
 * The session's process dies, between calls, in a critical section or while it closes: what it held is dropped, and
 * another session gets its entry.
 */
static void die(struct session *s)
{
	uint32_t index = s->index, n_steps = fixture_below(20);
	int r = 0;

	switch (fixture_below(3)) {
	case 0:
		critical_stay(s);
		let_go_of_one(s);
		break;
	case 1:
		while (n_steps-- > 0)
			ck_assert_int_ge(session_drop_step(s, false), 0);
		break;
	default:
		break;
	}
	session_mark_dead(fx.heap, index);
	while ((r = session_reclaim_step(s)) == 1)
		;
	expect(0, r, "reclaim");
	for (uint32_t i = 0; i < N_OBJECTS; i++) {
		if (!objects[i].ref || !objects[i].n_holds[index])
			continue;
		objects[i].n_holds[index] = 0;
		model_settle(i);
	}
	expect(0, fixture_admit(fx.heap, s), "admit");
	ck_assert_uint_eq(s->index, index);
}

static void one_operation(struct session *s)
{
	switch (fixture_below(19)) {
	case 0 ... 3:
		if (n_live < N_OBJECTS * 2 / 3)
			op_new(s);
		break;
	case 4:
		op_incref(s);
		break;
	case 5 ... 7:
		op_decref(s);
		break;
	case 8:
		op_dead_ref(s);
		break;
	case 9 ... 10:
		op_slot_set(s);
		break;
	case 11:
		op_slot_get(s);
		break;
	case 12:
		op_push(s);
		break;
	case 13:
		op_pop(s);
		break;
	case 14:
		op_name(s);
		break;
	case 15:
		op_new_and_drop(s);
		break;
	case 16:
		op_gather(s);
		break;
	case 17:
		if (fixture_below(10) == 0)
			op_hold_often(s);
		break;
	default:
		op_look(s);
	}
}

static void compare_all(void)
{
	struct heap_stats stats;

	fixture_check();
	for (uint32_t i = 0; i < N_OBJECTS; i++) {
		const struct model_object *o = &objects[i];

		if (!o->ref)
			continue;
		compare_contents(o);
		expect(model_count(o), object_refcount(&fx.sessions[0], o->ref), "refcount");
		for (uint32_t s = 0; s < FIXTURE_SESSIONS; s++)
			expect(o->n_holds[s] > 0, object_is_held(&fx.sessions[s], o->ref), "held");
	}
	stats = fixture_stats();
	ck_assert_uint_eq(fixture_blocks_used() + stats.n_medium_objects + stats.n_large_objects, n_live);
}

static void drop_everything(void)
{
	char name[40];

	for (uint32_t i = 0; i < N_NAMES; i++) {
		name_of(i, name);
		if (names1[i])
			expect(0, name_del(&fx.sessions[i % FIXTURE_SESSIONS], name), "name del");
		model_put(&names1[i], 0);
	}
	for (uint32_t i = 0; i < N_OBJECTS; i++) {
		for (uint32_t s = 0; s < FIXTURE_SESSIONS; s++) {
			while (objects[i].ref && objects[i].n_holds[s]) {
				expect(0, object_decref(&fx.sessions[s], objects[i].ref), "decref");
				objects[i].n_holds[s]--;
				model_settle(i);
			}
		}
	}
	ck_assert_uint_eq(n_live, 0);
}

START_TEST(against_a_model)
{
	uint64_t n_ops = fixture_ops(1000000);

	fixture_seed();
	MUST(&fx.sessions[0], type_register(&fx.sessions[0],
				      &(struct type_spec){"node", STRUCT_SIZE, 0, 2, struct_slots}, &struct_type));
	for (op_number = 0; op_number < n_ops; op_number++) {
		struct session *s = &fx.sessions[fixture_below(FIXTURE_SESSIONS)];
		bool locked = fixture_below(10) == 0;

		if (locked)
			expect(0, session_lock(s), "lock");
		one_operation(s);
		if (locked) {
			one_operation(s);
			expect(0, session_unlock(s), "unlock");
		}
		if (fixture_below(5000) == 0)
			die(s);
		if (fixture_below(500) == 0)
			fixture_trim(fixture_below(3));
		if (op_number % CHECK_EVERY == 0)
			compare_all();
	}
	compare_all();
	drop_everything();
	fixture_check();
	fixture_trim(1);
	fixture_check();
	ck_assert_uint_eq(fx.heap->control->counters.n_arenas_current, 1); /* but for the one that is spared */
	ck_assert_uint_eq(fixture_heap_bytes(), ARENA_SIZE_DEFAULT);
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("random");
	TCase *t = tcase_create("random");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, against_a_model);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
