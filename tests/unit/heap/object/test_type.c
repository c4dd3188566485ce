// SPDX-License-Identifier: MIT
/*
 * Registered types: the same, another one of that name, limits; and a registration that is killed
 */
#include "tests/unit/heap/fixture.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const size_t ascending[] = {0, 8, 24};

/* A good spec, in which each case makes one thing wrong. */
static struct type_spec good_spec(void)
{
	return (struct type_spec){.name = "point", .size = 32, .alignment = 16, .n_slots = 3, .slots = ascending};
}

START_TEST(same_spec_same_type)
{
	struct type_spec spec = good_spec();
	const size_t copy[] = {0, 8, 24};
	uint32_t type, again, other;

	MUST(S0, type_register(S0, &spec, &type));
	ck_assert_uint_ge(type, TYPE_FIRST_REGISTERED);
	MUST(S0, type_register(S0, &spec, &again));
	ck_assert_uint_eq(again, type);
	spec.slots = copy;
	spec.name = "other";
	MUST(S1, type_register(S1, &spec, &other));
	ck_assert_uint_ne(other, type);
	spec.name = "point";
	MUST(S1, type_register(S1, &spec, &again));
	ck_assert_uint_eq(again, type);
	ck_assert_uint_eq(fx.heap->control->n_types, 2);
}
END_TEST

START_TEST(other_spec_of_that_name)
{
	static const size_t fewer[] = {0, 8}, others[] = {0, 16, 24};
	struct type_spec spec[5];
	uint32_t type, ret = 99;

	for (int i = 0; i < 5; i++)
		spec[i] = good_spec();
	MUST(S0, type_register(S0, &spec[0], &type));
	spec[0].size = 40;
	spec[1].alignment = 8;
	spec[2].n_slots = 2, spec[2].slots = fewer;
	spec[3].slots = others;
	spec[4].n_slots = 0;
	for (int i = 0; i < 5; i++)
		EXPECT(S1, -EEXIST, type_register(S1, &spec[i], &ret));
	for (int i = 0; i < 3; i++) { /* the built-in types' names are taken, too */
		spec[0].name = (const char *const[]){"bytes", "list", "queue"}[i];
		EXPECT(S1, -EEXIST, type_register(S1, &spec[0], &ret));
	}
	ck_assert_uint_eq(ret, 99);
}
END_TEST

START_TEST(bad_specs)
{
	static const char name63[] = "123456789 123456789 123456789 123456789 123456789 123456789 123";
	static const char name64[] = "123456789 123456789 123456789 123456789 123456789 123456789 1234";
	static const size_t misaligned[] = {4}, descending[] = {8, 0}, twice[] = {8, 8}, outside[] = {32},
			    across[] = {25};
	static size_t many[SLOTS_PER_TYPE + 1];
	static const struct {
		struct type_spec spec;
		int r;
	} cases[] = {
		{{"", 8, 0, 0, NULL}, -EINVAL},
		{{name63, 8, 0, 0, NULL}, 0},
		{{name64, 8, 0, 0, NULL}, -ENAMETOOLONG},
		{{"\xff", 8, 0, 0, NULL}, -EINVAL},
		{{"size 0", 0, 0, 0, NULL}, -EINVAL},
		{{"size 1", 1, 0, 0, NULL}, 0},
		{{"size of any heap", HEAP_SIZE_MAX, 0, 0, NULL}, 0},
		{{"beyond any heap", HEAP_SIZE_MAX + 1, 0, 0, NULL}, -EINVAL},
		{{"size max", SIZE_MAX, 0, 0, NULL}, -EINVAL},
		{{"alignment 1", 8, 1, 0, NULL}, 0},
		{{"alignment 3", 8, 3, 0, NULL}, -EINVAL},
		{{"alignment 24", 48, 24, 0, NULL}, -EINVAL},
		{{"alignment 4096", 8, 4096, 0, NULL}, 0},
		{{"alignment 8192", 8, 8192, 0, NULL}, -EINVAL},
		{{"alignment max", 8, SIZE_MAX, 0, NULL}, -EINVAL},
		{{"no slots given", 8, 0, 1, NULL}, -EINVAL},
		{{"misaligned", 32, 0, 1, misaligned}, -EINVAL},
		{{"descending", 32, 0, 2, descending}, -EINVAL},
		{{"twice", 32, 0, 2, twice}, -EINVAL},
		{{"outside", 32, 0, 1, outside}, -EINVAL},
		{{"just inside", 40, 0, 1, outside}, 0},
		{{"across the end", 32, 0, 1, across}, -EINVAL},
		{{"reaching over the end", 39, 0, 1, outside}, -EINVAL},
		{{"smaller than a slot", 7, 0, 1, ascending}, -EINVAL},
		{{"256 slots", 8 * 257, 0, SLOTS_PER_TYPE, many}, 0},
		{{"257 slots", 8 * 257, 0, SLOTS_PER_TYPE + 1, many}, -EINVAL},
		{{"slots max", 8 * 257, 0, SIZE_MAX, many}, -EINVAL},
	};
	uint32_t n_good = 0, type;

	for (size_t i = 0; i <= SLOTS_PER_TYPE; i++)
		many[i] = 8 * i;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		type = 99;
		ck_assert_msg(
			CALL(S0, type_register(S0, &cases[i].spec, &type)) == cases[i].r, "%s", cases[i].spec.name);
		fixture_check();
		n_good += !cases[i].r;
		ck_assert(cases[i].r ? type == 99 : type == TYPE_FIRST_REGISTERED + n_good - 1);
	}
	ck_assert_uint_eq(fx.heap->control->n_types, n_good);
}
END_TEST

START_TEST(found_as_registered)
{
	struct type_spec spec = good_spec();
	struct type_info info;
	char name[64];
	uint32_t type;

	MUST(S0, type_register(S0, &spec, &type));
	ck_assert_int_eq(type_find(fx.heap, type, &info), 0);
	ck_assert_uint_eq(info.size, 32);
	ck_assert_uint_eq(info.alignment, 16);
	ck_assert_uint_eq(info.n_slots, 3);
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(info.slots[i], ascending[i]);
	ck_assert_int_eq(type_name(fx.heap, type, name), 0);
	ck_assert_str_eq(name, "point");
	ck_assert_int_eq(type_name(fx.heap, TYPE_BYTES, name), 0);
	ck_assert_str_eq(name, "bytes");
	ck_assert_int_eq(type_name(fx.heap, TYPE_LIST, name), 0);
	ck_assert_str_eq(name, "list");
	ck_assert_int_eq(type_name(fx.heap, TYPE_QUEUE, name), 0);
	ck_assert_str_eq(name, "queue");
	for (uint32_t bad = 0; bad < 100; bad++) {
		if ((bad >= TYPE_BYTES && bad <= TYPE_QUEUE) || bad == type)
			continue;
		ck_assert_int_eq(type_find(fx.heap, bad, &info), -EINVAL);
		ck_assert_int_eq(type_name(fx.heap, bad, name), -EINVAL);
	}
	ck_assert_int_eq(type_find(fx.heap, UINT32_MAX, &info), -EINVAL);
	ck_assert_int_eq(type_name(fx.heap, type + 1, name), -EINVAL);
}
END_TEST

START_TEST(limit_of_types)
{
	uint32_t type = 0, ret = 99;
	char name[16];

	for (uint32_t i = 0; i < TYPES_MAX; i++) {
		snprintf(name, sizeof(name), "type %u", i);
		ck_assert_int_eq(type_register(S0, &(struct type_spec){name, 1 + i, 0, 0, NULL}, &type), 0);
		ck_assert_uint_eq(type, TYPE_FIRST_REGISTERED + i);
	}
	EXPECT(S0, -ENOSPC, type_register(S0, &(struct type_spec){"one more", 8, 0, 0, NULL}, &ret));
	ck_assert_uint_eq(ret, 99);
	/* The registered types are still found, and objects can be made of them. */
	MUST(S1, type_register(S1, &(struct type_spec){"type 1023", 1024, 0, 0, NULL}, &ret));
	ck_assert_uint_eq(ret, type);
	fixture_new(S1, type, 0);
}
END_TEST

/* Sizes that would overflow, or fit nowhere, also of a type that is aligned to 16. */
/* Each user has a limit; root's sessions, as here S2's, have none. */
START_TEST(limit_of_a_user)
{
	struct type_spec spec = good_spec();
	uint32_t type, before = 99;
	char name[32];

	S0->entry->uid = S1->entry->uid = 7;
	S0->entry->max_types = S1->entry->max_types = 3;
	S3->entry->uid = 8;
	S3->entry->max_types = 1;
	spec.name = name;
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "seven%d", i);
		MUST(i & 1 ? S1 : S0, type_register(i & 1 ? S1 : S0, &spec, &type));
	}
	strcpy(name, "more");
	EXPECT(S0, -EDQUOT, type_register(S0, &spec, &before));
	EXPECT(S1, -EDQUOT, type_register(S1, &spec, &before));
	ck_assert_uint_eq(before, 99);
	MUST(S3, type_register(S3, &spec, &type));
	MUST(S0, type_register(S0, &spec, &before)); /* it is there by now */
	ck_assert_uint_eq(before, type);
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "root%d", i);
		EXPECT(S3, -EDQUOT, type_register(S3, &spec, &type));
		MUST(S2, type_register(S2, &spec, &type));
	}
}
END_TEST

START_TEST(sizes_beyond_all)
{
	static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 7, SIZE_MAX - 14, SIZE_MAX - 15,
		SIZE_MAX - 16, SIZE_MAX / 2, FIXTURE_HEAP_SIZE + 1};
	size_t slots[] = {0, 4096};
	struct type_spec spec = {"vector", 8192, 16, 2, slots}, plain = {"plain", 16, 16, 0, NULL};
	uint64_t keep = fixture_bytes(S1, 8), got = 7;
	uint32_t types[2];

	ck_assert_int_eq(type_register(S0, &spec, &types[0]), 0);
	ck_assert_int_eq(type_register(S0, &plain, &types[1]), 0);
	fixture_bytes(S0, 8);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (size_t k = 0; k < 2; k++)
			EXPECT(S0, -ENOMEM, object_new(S0, types[k], sizes[i], &got));
		EXPECT(S0, -ENOMEM, object_new(S0, TYPE_BYTES, sizes[i], &got));
		EXPECT(S0, -ENOMEM, object_new(S0, TYPE_LIST, sizes[i] & ~(size_t)7, &got));
	}
	ck_assert_uint_eq(got, 7);
	fixture_drop(S1, keep);
}
END_TEST

START_TEST(limit_of_slots)
{
	size_t slots[SLOTS_PER_TYPE];
	struct type_spec spec = {.size = sizeof(slots), .n_slots = SLOTS_PER_TYPE, .slots = slots};
	uint32_t type, n = 0;
	char name[16];
	int r;

	for (size_t i = 0; i < SLOTS_PER_TYPE; i++)
		slots[i] = 8 * i;
	do {
		snprintf(name, sizeof(name), "wide %u", n++);
		spec.name = name;
		r = type_register(S0, &spec, &type);
	} while (!r);
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_eq(n - 1, TYPE_SLOTS_MAX / SLOTS_PER_TYPE);
	fixture_check();
	/* the last one that found room has all its slots */
	uint64_t child = fixture_bytes(S0, 1), object = fixture_new(S0, type, 0);

	for (size_t i = 0; i < SLOTS_PER_TYPE; i++)
		ck_assert_int_eq(slot_set(S0, object, slots[i], child), 0);
	fixture_check();
	ck_assert_int_eq(object_refcount(S0, child), SLOTS_PER_TYPE + 1);
	fixture_drop(S0, object);
	ck_assert_int_eq(object_refcount(S0, child), 1);
}
END_TEST

/* Killed. */

static struct {
	uint32_t guess;  /* the type's number, which another process uses before the registration returns */
	uint64_t at;     /* killed after so many instructions */
	bool when_found; /* or as soon as the number is found */
	uint64_t *n;     /* instructions so far; of parent and child */
} doom;

static void on_trap(int signal)
{
	struct type_info info;

	(void)signal;
	if (++*doom.n > doom.at || (doom.when_found && type_find(fx.heap, doom.guess, &info) == 0))
		kill(getpid(), SIGKILL);
}

/* In a child, which is killed after so many instructions. False: it came to the end. */
static bool registers_and_dies(const struct type_spec *spec)
{
	uint32_t type;
	int status;
	pid_t pid;

	*doom.n = 0;
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		signal(SIGTRAP, on_trap);
		trap_each_instruction(true);
		status = type_register(S0, spec, &type);
		trap_each_instruction(false);
		_exit(status != 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	return WIFSIGNALED(status);
}

/* A number by which a type was found once stays that type's, however its registration ends. */
START_TEST(found_number_stays)
{
	static const size_t slots[] = {8, 24, 48};
	struct type_spec spec = good_spec(), other = {.name = "other", .size = 56, .n_slots = 3, .slots = slots};
	struct type_info info;
	uint32_t type;

	doom.guess = TYPE_FIRST_REGISTERED;
	doom.at = UINT64_MAX;
	doom.when_found = true;
	if (!registers_and_dies(&spec))
		ck_assert_uint_eq(*doom.n, 0); /* no traps here */
	ck_assert_int_eq(lock_recover(&fx.daemon), 0);
	ck_assert_int_eq(type_find(fx.heap, doom.guess, &info), 0);
	ck_assert_uint_eq(info.size, spec.size);
	MUST(S1, type_register(S1, &other, &type));
	ck_assert_uint_eq(type, doom.guess + 1);
	MUST(S1, type_register(S1, &spec, &type));
	ck_assert_uint_eq(type, doom.guess);
}
END_TEST

/*
 * A registration is killed at any instruction: the type is registered or it is not, the next one has its own slots, and
 * none are lost.
 */
START_TEST(killed_anywhere)
{
	static const size_t slots[] = {8, 24, 48};
	struct type_spec first = good_spec(), spec = good_spec(),
			 other = {.name = "other", .size = 56, .n_slots = 3, .slots = slots};
	uint32_t type, n_slots = 0, n_not = 0, n_done = 0;
	bool is_killed = true;

	spec.name = "second";
	doom.when_found = false;
	for (doom.at = 0; is_killed; doom.at += 7) {
		bool is_there;

		fixture_close();
		fixture_open();
		MUST(S0, type_register(S0, &first, &type));
		doom.guess = type + 1;
		is_killed = registers_and_dies(&spec);
		ck_assert_int_eq(lock_recover(&fx.daemon), 0);
		is_there = fx.heap->control->n_types == 2;
		n_done += is_there;
		n_not += !is_there;
		MUST(S1, type_register(S1, &other, &type));
		ck_assert_uint_eq(type, doom.guess + is_there);
		n_slots = 6 + (is_there ? 3 : 0);
		ck_assert_uint_eq(fx.heap->control->n_type_slots, n_slots);
		for (int i = 0; i < 3; i++) {
			struct type_info info;

			ck_assert_int_eq(type_find(fx.heap, type, &info), 0);
			ck_assert_uint_eq(info.slots[i], slots[i]);
			ck_assert_int_eq(type_find(fx.heap, TYPE_FIRST_REGISTERED, &info), 0);
			ck_assert_uint_eq(info.slots[i], ascending[i]);
		}
		MUST(S1, type_register(S1, &spec, &type));
		ck_assert_uint_eq(type, doom.guess + !is_there);
	}
	ck_assert_uint_gt(n_done, 0);
	if (*doom.n)
		ck_assert_uint_gt(n_not, 10);
}
END_TEST

static void open_with_doom(void)
{
	fixture_open();
	doom.n = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(doom.n, MAP_FAILED);
}

static void close_with_doom(void)
{
	munmap(doom.n, 4096);
	fixture_close();
}

static Suite *suite(void)
{
	Suite *s = suite_create("type");
	TCase *t = tcase_create("type"), *u = tcase_create("open_with_doom");

	tcase_add_checked_fixture(t, fixture_open, fixture_close);
	tcase_add_test(t, same_spec_same_type);
	tcase_add_test(t, other_spec_of_that_name);
	tcase_add_test(t, bad_specs);
	tcase_add_test(t, found_as_registered);
	tcase_add_test(t, limit_of_types);
	tcase_add_test(t, limit_of_a_user);
	tcase_add_test(t, sizes_beyond_all);
	tcase_add_test(t, limit_of_slots);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(u, open_with_doom, close_with_doom);
	tcase_add_test(u, found_number_stays);
	tcase_add_test(u, killed_anywhere);
	suite_add_tcase(s, u);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
