// SPDX-License-Identifier: MIT
/*
 * The inline calls of pyheap.h return and do what the library's own do
 *
 * Each test makes both kinds of call, in turn or each in a run of its own. The library's are called by pointers, so
 * that the compiler does not inline them.
 */
#include "fixture.h"

#define N_OBJECTS 12
#define N_STEPS   400000
#define HOLDS_MAX 300

static int (*volatile whole_new)(pyheap *, pyheap_type, size_t, pyheap_ref *) = pyheap_new;
static void *(*volatile whole_data)(pyheap *, pyheap_ref) = pyheap_data;
static int (*volatile whole_incref)(pyheap *, pyheap_ref) = pyheap_incref;
static int (*volatile whole_decref)(pyheap *, pyheap_ref) = pyheap_decref;

static int incref(bool is_whole, pyheap_ref ref)
{
	return is_whole ? whole_incref(fixture_heap, ref) : pyheap_incref(fixture_heap, ref);
}

static int decref(bool is_whole, pyheap_ref ref)
{
	return is_whole ? whole_decref(fixture_heap, ref) : pyheap_decref(fixture_heap, ref);
}

static void *data(bool is_whole, pyheap_ref ref)
{
	errno = 0;
	return is_whole ? whole_data(fixture_heap, ref) : pyheap_data(fixture_heap, ref);
}

static void ck_all_err(bool is_whole, pyheap_ref ref, int code)
{
	ck_err(incref(is_whole, ref), code);
	ck_err(decref(is_whole, ref), code);
	ck_assert_ptr_null(data(is_whole, ref));
	ck_assert_int_eq(errno, code);
}

/* A random walk */

enum kind { KIND_BYTES, KIND_RUN, KIND_LIST, KIND_OTHERS, N_KINDS };

struct object {
	pyheap_ref ref; /* 0: none */
	int n_holds;
	unsigned char mark;
};

static void make(pyheap *other, struct object *object, enum kind kind, bool is_whole)
{
	static unsigned char mark;
	unsigned char *payload;

	if (kind == KIND_LIST)
		ck_ok(pyheap_list_new(fixture_heap, 5, &object->ref));
	else if (kind == KIND_OTHERS)
		ck_ok(pyheap_new(other, PYHEAP_BYTES, 40, &object->ref));
	else if (is_whole)
		ck_ok(whole_new(fixture_heap, PYHEAP_BYTES, kind == KIND_RUN ? 5000 : 40, &object->ref));
	else if (kind == KIND_RUN)
		ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 5000, &object->ref));
	else
		ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 40, &object->ref));
	if (kind == KIND_OTHERS) {
		ck_ok(incref(is_whole, object->ref));
		ck_ok(pyheap_decref(other, object->ref));
	}
	object->n_holds = 1;
	object->mark = ++mark;
	payload = data(is_whole, object->ref);
	ck_assert_ptr_nonnull(payload);
	if (kind != KIND_LIST) /* its slots are only to be read */
		payload[39] = mark;
}

static void step(pyheap *other, struct object *object, enum kind kind)
{
	bool is_whole = rand() % 2;
	const unsigned char *payload;

	if (!object->ref) {
		make(other, object, kind, is_whole);
		return;
	}
	switch (rand() % 4) {
	case 0:
		ck_ok(incref(is_whole, object->ref));
		object->n_holds++;
		break;
	case 1:
		ck_ok(decref(is_whole, object->ref));
		if (!--object->n_holds) {
			ck_all_err(is_whole, object->ref, ESTALE);
			object->ref = 0;
		}
		break;
	case 2:
		payload = data(is_whole, object->ref);
		ck_assert_ptr_nonnull(payload);
		ck_assert_ptr_eq(payload, data(!is_whole, object->ref));
		ck_assert(kind == KIND_LIST || payload[39] == object->mark);
		break;
	default:
		ck_assert_int_eq(pyheap_refcount(fixture_heap, object->ref), object->n_holds);
	}
}

START_TEST(test_random)
{
	struct object objects[N_OBJECTS] = {{0}};
	pyheap *other = fixture_open(&fx);

	srand(7);
	for (int i = 0; i < N_STEPS; i++) {
		int k = rand() % N_OBJECTS;

		step(other, &objects[k], (enum kind)(k % N_KINDS));
	}
	for (int i = 0; i < N_OBJECTS; i++)
		for (; objects[i].ref && objects[i].n_holds; objects[i].n_holds--)
			ck_ok(decref(i % 2, objects[i].ref));
	pyheap_close(other);
}
END_TEST

/* Bounds */

/*
 * The header counts 127 holds; the hold table counts more. _i: bit 0 which kind of call takes them, bit 1 which drops
 * them.
 */
START_TEST(test_many_holds)
{
	pyheap_ref ref;

	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &ref));
	for (int i = 1; i < HOLDS_MAX; i++) {
		ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), i);
		ck_ok(incref(_i & 1, ref));
	}
	for (int i = HOLDS_MAX; i > 0; i--) {
		ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), i);
		ck_ok(decref(_i & 2, ref));
	}
	ck_all_err(_i & 2, ref, ESTALE);
}
END_TEST

#define CK_SIZE(n)                                                                                                     \
	do {                                                                                                           \
		ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, (n), &ref));                                              \
		ck_assert_int_eq(pyheap_size(fixture_heap, ref), (ssize_t)(n));                                        \
		memset(pyheap_data(fixture_heap, ref), 0x5a, (n));                                                     \
		ck_ok(pyheap_decref(fixture_heap, ref));                                                               \
	} while (0)

/* Sizes that are constants, sizes that are variables, and sizes that no object can have. */
START_TEST(test_sizes)
{
	volatile size_t size;
	pyheap_ref ref;

	CK_SIZE(0);
	CK_SIZE(1);
	CK_SIZE(8);
	CK_SIZE(9);
	CK_SIZE(16);
	CK_SIZE(504);
	CK_SIZE(505);
	CK_SIZE(512);
	CK_SIZE(513);
	CK_SIZE(4096);
	for (size = 0; size < 600; size++)
		CK_SIZE(size);
	ref = 99;
	ck_err(pyheap_new(fixture_heap, PYHEAP_BYTES, SIZE_MAX, &ref), ENOMEM);
	size = SIZE_MAX;
	ck_err(pyheap_new(fixture_heap, PYHEAP_BYTES, size, &ref), ENOMEM);
	ck_err(pyheap_new(fixture_heap, PYHEAP_LIST, 12, &ref), EINVAL);
	ck_err(pyheap_new(fixture_heap, 9999, 48, &ref), EINVAL);
	ck_assert_uint_eq(ref, 99);
	ck_err(pyheap_new(NULL, PYHEAP_BYTES, 48, &ref), EINVAL);
	ck_err(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, NULL), EINVAL);
	ck_err(whole_new(NULL, PYHEAP_BYTES, 48, &ref), EINVAL);
	ck_err(whole_new(fixture_heap, PYHEAP_BYTES, 48, NULL), EINVAL);
}
END_TEST

static uint64_t n_used(size_t size)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(fixture_heap, &stats));
	return stats.classes[(size - 1) / 8].n_used;
}

/* Each object lies in a block of its size's class, whichever call makes it, though other classes have room. */
START_TEST(test_classes)
{
	pyheap_ref refs[3], keep[64];
	volatile size_t size;

	for (int i = 0; i < 64; i += 3)
		ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, (size_t)(8 * i + 8), &keep[i]));
	for (size = 1; size <= 512; size++) {
		uint64_t n = n_used(size);

		ck_ok(pyheap_new(
			fixture_heap, PYHEAP_BYTES, size, &refs[0])); /* in a pool that the session did not know yet */
		ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, size, &refs[1]));
		ck_ok(whole_new(fixture_heap, PYHEAP_BYTES, size, &refs[2]));
		ck_assert_uint_eq(n_used(size), n + 3);
		for (int i = 0; i < 3; i++)
			ck_ok(decref(i % 2, refs[i]));
	}
	for (int i = 0; i < 64; i += 3)
		ck_ok(decref(i % 2, keep[i]));
}
END_TEST

/* The cache */

static struct pyheap_cached *find(pyheap_ref ref)
{
	struct pyheap_cached *cached = ((const struct pyheap_inline *)(const void *)fixture_heap)->cache;

	for (int i = 0; i < 256; i++)
		if (cached[i].ref == ref)
			return &cached[i];
	return NULL;
}

/* The inline call and the library's see the same. */
START_TEST(test_found)
{
	pyheap_ref refs[1000];

	for (int i = 0; i < 1000; i++) {
		ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, (size_t)(i % 512 + 1), &refs[i]));
		ck_assert_ptr_nonnull(data(true, refs[i]));
		ck_assert_ptr_nonnull(find(refs[i]));
#ifndef PYHEAP_NO_INLINE
		ck_assert_ptr_eq(pyheap_inline_find((const void *)fixture_heap, refs[i]), find(refs[i]));
#endif
		ck_assert_ptr_eq(find(refs[i])->data, data(false, refs[i]));
	}
	for (int i = 0; i < 1000; i++) {
		ck_ok(decref(i % 2, refs[i]));
		ck_assert_ptr_null(find(refs[i]));
	}
}
END_TEST

/*
 * The header has changed since the object was used last, as by damage or repair: no call trusts what was cached. _i:
 * bit 0 which kind of call, bit 1 whether others have a right to the object.
 */
START_TEST(test_another_word)
{
	uint64_t word, generation = UINT64_C(1) << 36;
	struct pyheap_cached *cached;
	pyheap_ref ref;

	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &ref));
	ck_ok(incref(false, ref));
	if (_i & 2)
		ck_ok(pyheap_name_set(fixture_heap, "x", ref));
	cached = find(ref);
	ck_assert_ptr_nonnull(cached);
	word = *cached->word;
	ck_assert_uint_eq(word, cached->word1 + 1);

	for (int i = 0; i < 5; i++) {
		const uint64_t others[] = {word + generation, cached->word1 + generation, (word | 127) - generation,
			cached->word1 - generation, word ^ UINT64_C(1) << 63};

		*cached->word = others[i];
		ck_err(incref(_i & 1, ref), ESTALE);
		ck_err(decref(_i & 1, ref), ESTALE);
		ck_assert_uint_eq(*cached->word, others[i]);
	}
	*cached->word = cached->word1 - 1; /* not held */
	ck_err(decref(_i & 1, ref), _i & 2 ? EPERM : ESTALE);
	ck_assert_uint_eq(*cached->word, cached->word1 - 1);

	*cached->word = word;
	ck_ok(decref(_i & 1, ref));
	ck_ok(decref(_i & 1, ref));
	if (_i & 2)
		ck_ok(pyheap_name_del(fixture_heap, "x"));
	ck_all_err(_i & 1, ref, ESTALE);
}
END_TEST

/* No object, no session, no heap */

/* The ref of a freed object does not name the next object in its block. */
START_TEST(test_reused)
{
	pyheap_ref old, ref;

	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &old));
	ck_assert_ptr_nonnull(data(false, old));
	ck_ok(decref(_i, old));
	ck_all_err(_i, old, ESTALE);
	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &ref));
	ck_assert_uint_eq((uint32_t)ref, (uint32_t)old);
	ck_all_err(_i, old, ESTALE);
	ck_assert_ptr_nonnull(data(_i, ref));
	ck_all_err(_i, old, ESTALE);
	ck_all_err(_i, 0, EINVAL);
	ck_all_err(_i, 1, EINVAL);
	ck_all_err(_i, UINT64_MAX, EINVAL);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 1);
	ck_ok(decref(_i, ref));
}
END_TEST

/* Objects that another session made, and gave up: they are not counted in its header alone. */
START_TEST(test_others)
{
	pyheap *other = fixture_open(&fx), *first = fixture_heap;
	pyheap_ref ref;

	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &ref));
	ck_assert_ptr_nonnull(data(false, ref));
	fixture_heap = other;
	ck_err(decref(_i, ref), EPERM);
	ck_ok(incref(_i, ref));
	ck_ok(incref(_i, ref));
	ck_assert_ptr_nonnull(data(_i, ref));
	fixture_heap = first;
	ck_ok(decref(_i, ref));
	ck_err(decref(_i, ref), EPERM);
	ck_ok(incref(_i, ref));
	ck_ok(decref(_i, ref));
	fixture_heap = other;
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 2);
	ck_ok(decref(_i, ref));
	ck_ok(decref(_i, ref));
	ck_all_err(_i, ref, ESTALE);
	fixture_heap = first;
	ck_all_err(_i, ref, ESTALE);
	pyheap_close(other);
}
END_TEST

static void in_child(void *userdata)
{
	const pyheap_ref *ref = userdata;
	pyheap_ref made = 99;

	for (int is_whole = 0; is_whole < 2; is_whole++) {
		ck_all_err(is_whole, *ref, ECHILD);
		ck_all_err(is_whole, 0, ECHILD);
		ck_all_err(is_whole, UINT64_MAX, ECHILD);
	}
	ck_err(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &made), ECHILD);
	ck_err(whole_new(fixture_heap, PYHEAP_BYTES, 48, &made), ECHILD);
	ck_assert_uint_eq(made, 99);
	pyheap_close(fixture_heap);
}

START_TEST(test_fork)
{
	pyheap_ref ref;

	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &ref));
	ck_assert_ptr_nonnull(data(false, ref));
	ck_ok(incref(false, ref));
	ck_assert_int_eq(fixture_wait(fixture_fork(in_child, &ref)), 0);
	ck_assert_int_eq(pyheap_refcount(fixture_heap, ref), 2);
	ck_ok(decref(false, ref));
	ck_ok(decref(false, ref));
}
END_TEST

START_TEST(test_ended)
{
	pyheap_ref ref, made = 99;

	ck_ok(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &ref));
	ck_ok(incref(false, ref));
	ck_assert_ptr_nonnull(data(false, ref));
	fixture_stop(&fx, SIGTERM);
	ck_all_err(_i, ref, EPIPE);
	ck_err(pyheap_new(fixture_heap, PYHEAP_BYTES, 48, &made), EPIPE);
	ck_assert_uint_eq(made, 99);
}
END_TEST

START_TEST(test_no_session)
{
	pyheap *keep = fixture_heap;

	fixture_heap = NULL;
	ck_all_err(_i, 1, EINVAL);
	fixture_heap = keep;
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("client_inline");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, fixture_setup_session, fixture_teardown_session);
	tcase_add_test(tcase, test_random);
	tcase_add_loop_test(tcase, test_many_holds, 0, 4);
	tcase_add_test(tcase, test_sizes);
	tcase_add_test(tcase, test_classes);
	tcase_add_test(tcase, test_found);
	tcase_add_loop_test(tcase, test_another_word, 0, 4);
	tcase_add_loop_test(tcase, test_reused, 0, 2);
	tcase_add_loop_test(tcase, test_others, 0, 2);
	tcase_add_test(tcase, test_fork);
	tcase_add_loop_test(tcase, test_ended, 0, 2);
	tcase_add_loop_test(tcase, test_no_session, 0, 2);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
