// SPDX-License-Identifier: MIT
/*
 * A stranger, which holds an object by its number alone, while the owner makes, frees or keeps it without the lock
 *
 * The owner's call is stopped between two of its instructions, and there the stranger acts; wherever that is, both must
 * agree on whether the object exists. The call is made again and again and stopped at another instruction each time: at
 * some of them, chosen at random, or at each where PYHEAP_TEST_CUTS=all, which takes minutes, since a stop may cost 50
 * microseconds. The processor's trap flag stops the call; where there is none (valgrind, other processors) nothing is
 * stopped.
 *
 * What two processors may see of each other's stores besides, the last test tries with two processes.
 */
#include "tests/unit/heap/fixture.h"

#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define N_CUTS 40U /* stops in one call, about */
#define N_GAPS 24U /* instructions between the two stops of a pair, at most */

/* One after the other. */

/* The first stranger makes a request to the owner; from then on the object is marked as shared. */
START_TEST(owner_is_asked_once)
{
	uint64_t ref = fixture_bytes(S0, 40), other = fixture_bytes(S0, 40), n;

	MUST(S1, object_incref(S1, ref));
	ck_assert_uint_eq(ref_header(ref)->rights_counted, RIGHTS_SHARED | RIGHTS_ONE);
	ck_assert_uint_eq(S0->entry->requests, REQUEST_STRANGER);
	ck_assert_int_eq(session_serve_requests(S0), 0);
	MUST(S2, object_incref(S2, ref));
	ck_assert_uint_eq(S0->entry->requests, 0);
	fixture_drop(S1, ref);
	fixture_drop(S2, ref);
	ck_assert_uint_eq(ref_header(ref)->rights_counted, RIGHTS_SHARED);
	MUST(S1, object_incref(S1, ref));
	ck_assert_uint_eq(S0->entry->requests, 0);
	/* An object without a stranger needs no lock. */
	n = fx.heap->control->lock.n_acquisitions;
	ck_assert_int_eq(object_decref(S0, other), 0);
	ck_assert_uint_eq(fx.heap->control->lock.n_acquisitions, n);
	ck_assert_uint_eq(ref_state(other), STATE_FREE);
	fixture_drop(S0, ref);
	fixture_drop(S1, ref);
	fixture_expect_empty();
}
END_TEST

/* A session that gets a right from the owner is no stranger; nor is one that holds an object without an owner. */
START_TEST(nobody_is_asked)
{
	uint64_t refs[4], list = fixture_list(S0, 1), queue, got, unowned;

	MUST(S0, queue_new(S0, 1, &queue));
	for (int i = 0; i < 4; i++)
		refs[i] = fixture_bytes(S0, 40);
	MUST(S0, list_set(S0, list, 0, refs[0]));
	MUST(S0, name_set(S0, "n", refs[1]));
	MUST(S0, queue_push(S0, queue, refs[2], 0));
	MUST(S0, name_set(S0, "q", queue));
	ck_assert_uint_eq(S0->entry->requests, 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_uint_eq(ref_rights(refs[i]), 1);
		ck_assert(rights_are_shared(ref_header(refs[i])->rights));
		MUST(S1, object_incref(S1, refs[i]));
		ck_assert_uint_eq(S0->entry->requests, 0);
	}
	MUST(S1, queue_pop(S1, queue, &got, 0));
	unowned = fixture_bytes(S3, 40);
	MUST(S1, object_incref(S1, unowned));
	session_mark_dead(fx.heap, S3->index);
	while (session_reclaim_step(S3) == 1)
		;
	ref_header(unowned)->rights &= ~(uint64_t)RIGHTS_SHARED; /* as if there had been no stranger */
	MUST(S2, object_incref(S2, unowned));
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(fx.sessions[i].entry->requests, 0);
}
END_TEST

/* Each call that takes a right to an object that is not shared makes the request. */
START_TEST(every_way_to_come)
{
	uint64_t list = fixture_list(S1, 1), ref = fixture_bytes(S0, 40);

	switch (_i) {
	case 0:
		MUST(S1, object_incref(S1, ref));
		break;
	case 1:
		MUST(S1, list_set(S1, list, 0, ref));
		break;
	case 2:
		MUST(S1, name_set(S1, "n", ref));
		break;
	}
	ck_assert_uint_eq(S0->entry->requests, REQUEST_STRANGER);
	ck_assert_int_eq(object_refcount(S2, ref), 2);
	fixture_drop(S0, ref);
	ck_assert_uint_eq(ref_state(ref), STATE_LIVE);
	ck_assert_int_eq(object_refcount(S2, ref), 1);
	if (_i == 0)
		fixture_drop(S1, ref);
	fixture_drop(S1, list);
	if (_i == 2)
		MUST(S1, name_del(S1, "n"));
	ck_assert_int_eq((int)object_refcount(S2, ref), -ESTALE);
	fixture_expect_empty();
}
END_TEST

/* The stranger has found the object, then the owner drops it, without the lock; the stranger must see that. */
START_TEST(gone_meanwhile)
{
	uint64_t keep = fixture_bytes(S0, 40), ref = fixture_bytes(S0, 40), other = 0;
	struct object object;

	ck_assert_int_eq(change_begin(S1), 0);
	ck_assert_int_eq(object_find(fx.heap, ref, &object), 0);
	ck_assert_int_eq(object_decref(S0, ref), 0);
	if (_i) { /* and makes another one there */
		ck_assert_int_eq(object_new(S0, TYPE_BYTES, 40, &other), 0);
		ck_assert_uint_eq(ref_position(other), ref_position(ref));
	}
	ck_assert_int_eq(right_retain(S1, &object), -ESTALE);
	ck_assert_int_eq(change_end(S1, -ESTALE), -ESTALE);
	ck_assert_uint_eq(ref_header(ref)->rights, 0);
	ck_assert_uint_eq(ref_state(ref), _i ? STATE_LIVE : STATE_FREE);
	ck_assert_uint_eq(S1->entry->n_holds, 0);
	fixture_check();
	if (_i)
		fixture_drop(S0, other);
	fixture_drop(S0, keep);
	fixture_expect_empty();
}
END_TEST

/* The owner waits for the stranger to look. */

static size_t size_to_make;
static uint64_t *shared_refs; /* between processes */

static int make_one(void)
{
	if (object_new(S0, TYPE_BYTES, size_to_make, &shared_refs[0]))
		return 1;
	return 0;
}

/*
 * A block (a kept run) is free, but a stranger has just stored a right to the object that was there: the owner makes
 * nothing in it until the stranger has found that out and has undone it.
 */
START_TEST(no_new_object_under_a_stranger)
{
	static const size_t sizes[] = {40, 10 * POOL_SIZE, 3000};
	uint64_t ref = fixture_new(S0, TYPE_BYTES, sizes[_i]);
	struct object object;
	int status;
	pid_t pid;

	size_to_make = sizes[_i];
	ck_assert_int_eq(change_begin(S1), 0);
	ck_assert_int_eq(object_find(fx.heap, ref, &object), 0);
	ck_assert_int_eq(object_decref(S0, ref), 0);
	ck_assert_int_eq(right_retain(S1, &object), -ESTALE);
	ck_assert_uint_eq(ref_header(ref)->rights, 0);
	/* The stranger locked the header while the owner's last stores were still in its store buffer. */
	ck_assert(log_header_lock(fx.heap, &object.header->rights_counted, 0));
	object.header->rights_counted = RIGHTS_LOCKED | RIGHTS_SHARED | RIGHTS_ONE;
	S0->entry->requests = 0; /* the owner has read its requests before */
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid)
		_exit(make_one());
	while (!fixture_lock_is_awaited()) {
		ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0); /* it does not go on */
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	ck_assert_uint_eq(ref_state(ref), STATE_FREE);
	ck_assert_int_eq(change_end(S1, -ESTALE), -ESTALE);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	ck_assert_uint_eq(ref_position(shared_refs[0]), ref_position(ref));
	ck_assert_uint_eq(ref_header(ref)->rights, 0);
	fixture_drop(S0, shared_refs[0]);
	fixture_expect_empty();
}
END_TEST

/* Instruction by instruction. */

/* The owner's call that is stopped, what the stranger does there, and what it does at a second stop. */
static struct {
	void (*intrude)(void); /* NULL: all is done */
	void (*later)(void);
	uint64_t at;  /* after so many instructions, or at the first one after them where the lock is free */
	uint64_t gap; /* so many more to the second stop */
	uint64_t n;   /* instructions so far */
	bool is_done; /* it was cut */
} cut;

static uint64_t target, other, made;
static int intruder_result;

static bool lock_is_free(void)
{
	if (change_try_begin(S1) < 0)
		return false;
	change_end(S1, 0);
	return true;
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	(void)context;
	if (!cut.intrude || cut.n++ < cut.at || !lock_is_free())
		return;
	cut.is_done = true;
	cut.intrude();
	cut.intrude = cut.later;
	cut.later = NULL;
	cut.at = cut.n + cut.gap - 1;
#ifdef __x86_64__
	if (!cut.intrude)
		((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100LL;
#endif
}

static int make_block(void)
{
	return object_new(S0, TYPE_BYTES, 40, &made);
}

static int make_run(void)
{
	return object_new(S0, TYPE_BYTES, 3 * POOL_SIZE, &made);
}

static int make_list(void)
{
	return object_new(S0, TYPE_LIST, 40, &made);
}

static int drop(void)
{
	return object_decref(S0, target);
}

static void come(void)
{
	intruder_result = object_incref(S1, target);
	ck_assert(intruder_result == 0 || intruder_result == -ESTALE);
}

static void go(void)
{
	if (!intruder_result)
		ck_assert_int_eq(object_decref(S1, target), 0);
	intruder_result = -ESTALE; /* has no hold */
}

static void come_and_go(void)
{
	come();
	go();
}

static void come_by_a_list(void)
{
	intruder_result = list_set(S1, other, 0, target);
	ck_assert(intruder_result == 0 || intruder_result == -ESTALE);
	if (!intruder_result)
		ck_assert_int_eq(list_get(S1, other, 0, &(uint64_t){0}), 0);
	ck_assert_int_eq(list_set(S1, other, 0, 0), 0);
}

static void collect(void)
{
	ck_assert_int_ge(own_trim(&fx.daemon, S0->index), 0);
}

static void ask(void)
{
	critical_request(fx.heap, S0->index, REQUEST_COLLECT);
}

static void give_back(void) /* a block of the pool that the owner works in */
{
	if (shared_refs[1])
		ck_assert_int_eq(object_decref(S2, shared_refs[1]), 0);
	shared_refs[1] = 0;
}

static void look_at_all(void)
{
	ck_assert_int_eq(heap_check(S1, NULL, NULL), 0);
}

static const struct {
	const char *name;
	int (*call)(void);
	size_t size; /* of what is made or dropped */
	bool is_drop, is_alone;
	void (*intrude)(void), (*later)(void);
} cuts[] = {
	{"make a block, come", make_block, 40, false, false, come, NULL},
	{"make a block, come and go", make_block, 40, false, false, come_and_go, NULL},
	{"make a block, collect", make_block, 40, false, true, collect, NULL},
	{"make a block, return one", make_block, 40, false, false, give_back, NULL},
	{"make a block, ask", make_block, 40, false, false, ask, NULL},
	{"make a block, check", make_block, 40, false, false, look_at_all, NULL},
	{"make a list, come", make_list, 40, false, false, come_by_a_list, NULL},
	{"make a run, come", make_run, 3 * POOL_SIZE, false, false, come, NULL},
	{"make a run, come and go", make_run, 3 * POOL_SIZE, false, false, come_and_go, NULL},
	{"make a run, collect", make_run, 3 * POOL_SIZE, false, false, collect, NULL},
	{"drop a block, come", drop, 40, true, false, come, NULL},
	{"drop a block, come by a list", drop, 40, true, false, come_by_a_list, NULL},
	{"drop a block, come and go", drop, 40, true, false, come_and_go, NULL},
	{"drop a block, collect", drop, 40, true, false, collect, NULL},
	{"drop a block, return one", drop, 40, true, false, give_back, NULL},
	{"drop a block, ask", drop, 40, true, false, ask, NULL},
	{"drop a block, check", drop, 40, true, false, look_at_all, NULL},
	{"drop the last block, come", drop, 40, true, true, come, NULL},
	{"drop the last block, come and go", drop, 40, true, true, come_and_go, NULL},
	{"drop the last block, collect", drop, 40, true, true, collect, NULL},
	{"drop a run, come", drop, 3 * POOL_SIZE, true, false, come, NULL},
	{"drop a run, come and go", drop, 3 * POOL_SIZE, true, false, come_and_go, NULL},
	{"drop a run, collect", drop, 3 * POOL_SIZE, true, false, collect, NULL},
	{"make a block, come, go later", make_block, 40, false, false, come, go},
	{"make a run, come, go later", make_run, 3 * POOL_SIZE, false, false, come, go},
	{"drop a block, come, go later", drop, 40, true, false, come, go},
	{"drop the last block, come, go later", drop, 40, true, true, come, go},
	{"drop a run, come, go later", drop, 3 * POOL_SIZE, true, false, come, go},
};

/* Before the call: a free block or run is next, or the object that will be dropped exists. */
static void cut_prepare(int i, uint64_t *keep)
{
	uint64_t given = 0;

	*keep = 0;
	made = 0;
	intruder_result = -ESTALE;
	if (!cuts[i].is_alone) {
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 40, keep)), 0);
		ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, 40, &given)), 0);
		ck_assert_int_eq(CALL(S2, object_incref(S2, given)), 0);
		ck_assert_int_eq(object_decref(S0, given), 0);
	}
	shared_refs[1] = given;
	ck_assert_int_eq(session_serve_requests(S0), 0);
	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, cuts[i].size, &target)), 0);
	if (!cuts[i].is_drop) { /* the stranger names what is not made yet */
		ck_assert_int_eq(object_decref(S0, target), 0);
		target = ref_make(ref_position(target), ref_generation(target) + 1);
	}
}

/* False: the call had ended before. What was to be done at the second stop is done after the call then. */
static bool cut_at(int i, uint64_t at, uint64_t gap)
{
	uint64_t keep;
	int r;

	cut_prepare(i, &keep);
	cut.intrude = cuts[i].intrude;
	cut.later = cuts[i].later;
	cut.at = at;
	cut.gap = gap;
	cut.n = 0;
	cut.is_done = false;
	trap_each_instruction(true);
	r = cuts[i].call(); /* no assertion in here: the stranger makes its own, and Check's are not reentrant */
	trap_each_instruction(false);

	ck_assert_int_eq(r, 0);
	fixture_check();
	if (cut.is_done && cut.intrude)
		cut.intrude();
	ck_assert_uint_ne(S0->entry->activity, ACTIVITY_ACTIVE);
	ck_assert_int_eq(intruder_result == 0, object_is_held(S1, target));
	if (intruder_result == 0) {
		ck_assert_int_eq(object_refcount(S2, target), 1 + !cuts[i].is_drop);
		fixture_drop(S1, target);
	}
	if (made && made == target)
		ck_assert_int_eq(object_refcount(S2, target), 1);
	else
		ck_assert_int_eq((int)object_refcount(S2, target), -ESTALE);
	if (made)
		fixture_drop(S0, made);
	if (shared_refs[1])
		fixture_drop(S2, shared_refs[1]);
	if (keep)
		fixture_drop(S0, keep);
	ck_assert_uint_eq(S0->entry->n_own_holds, 0);
	ck_assert_uint_eq(S1->entry->n_holds, 0);
	return cut.is_done;
}

static bool cuts_all(void)
{
	const char *value = getenv("PYHEAP_TEST_CUTS");

	return value && !strcmp(value, "all");
}

/* How many instructions from one stop to the next, of n. */
static uint64_t cut_stride(uint64_t n)
{
	return cuts_all() ? 1 : 1 + fixture_below((uint32_t)(2 * n / N_CUTS) + 1);
}

/* One first stop, with several second ones behind it. False: the call had ended before. */
static bool cut_at_pairs(int i, uint64_t at, uint64_t *ret_n_found)
{
	for (uint32_t gap = 1; gap <= N_GAPS; gap += cuts_all() ? 1 : 1 + fixture_below(N_GAPS / 3)) {
		if (!cut_at(i, at, gap))
			return false;
		*ret_n_found += intruder_result == 0;
		if (!cuts[i].later)
			break;
	}
	return true;
}

START_TEST(cut_anywhere)
{
	const struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	uint64_t n, n_cut = 0, n_found = 0;

	fixture_seed();
	ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
	other = fixture_list(S1, 1);
	fixture_bytes(S2, 8);
	ck_assert(!cut_at(_i, UINT64_MAX, 0));
	n = cut.n;
	for (uint64_t at = 0; n && cut_at_pairs(_i, at, &n_found); at += cut_stride(n))
		n_cut++;
	if (n)
		ck_assert_uint_gt(n_cut, N_CUTS / 8);
	else
		fprintf(stderr, "%s: nothing can be cut here\n", cuts[_i].name);
	if (n && !cuts[_i].later && (cuts[_i].intrude == come || cuts[_i].intrude == come_by_a_list)) {
		ck_assert_uint_gt(n_found, 0);
		ck_assert_uint_lt(n_found, n_cut);
	}
	fixture_drop(S1, other);
	fixture_trim(0);
}
END_TEST

/* Two processors. */

#define NO_REF_YET 1

/* n times at least, and until the other process has come; where that has ended, not forever. */
static int make_and_drop(uint64_t n)
{
	for (uint64_t i = 0; i < n || (i < 1000 * n && !__atomic_load_n(&shared_refs[1], __ATOMIC_RELAXED)); i++) {
		size_t size = i % 16 ? 40 : 2 * POOL_SIZE;
		uint64_t ref;

		if (object_new(S0, TYPE_BYTES, size, &ref))
			return 1;
		memset(ref_data(ref), 0x5a, size);
		__atomic_store_n(&shared_refs[0], ref, __ATOMIC_RELEASE);
		for (uint64_t k = i % 64; k-- > 0;)
			__atomic_signal_fence(__ATOMIC_SEQ_CST);
		if (object_decref(S0, ref))
			return 2;
	}
	__atomic_store_n(&shared_refs[0], 0, __ATOMIC_RELEASE);
	return 0;
}

/* No byte of a held object changes, though its owner drops it and makes others. */
static void come_often(uint64_t *ret_n_found, uint64_t *ret_n_gone)
{
	uint64_t ref;

	while ((ref = __atomic_load_n(&shared_refs[0], __ATOMIC_ACQUIRE))) {
		int r;

		if (ref == NO_REF_YET)
			continue;
		r = object_incref(S1, ref);
		ck_assert(r == 0 || r == -ESTALE);
		*(r ? ret_n_gone : ret_n_found) += 1;
		__atomic_store_n(&shared_refs[1], 1, __ATOMIC_RELAXED);
		if (r)
			continue;
		for (int i = 0; i < 40; i++)
			ck_assert_uint_eq(ref_data(ref)[i], 0x5a);
		ck_assert_int_ge(object_refcount(S2, ref), 1);
		ck_assert_int_eq(object_decref(S1, ref), 0);
	}
}

START_TEST(owner_and_stranger_at_once)
{
	uint64_t n = fixture_ops(200000), n_found = 0, n_gone = 0;
	int status;
	pid_t pid;

	fixture_drop(S0, fixture_bytes(S0, 2 * POOL_SIZE)); /* there is an arena */
	fixture_drop(S2, fixture_bytes(S2, 8));
	shared_refs[0] = NO_REF_YET;
	shared_refs[1] = 0;
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid)
		_exit(make_and_drop(n));
	come_often(&n_found, &n_gone);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	ck_assert_uint_eq(S0->entry->n_own_holds, 0);
	ck_assert_uint_eq(S1->entry->n_holds, 0);
	ck_assert_uint_gt(n_found + n_gone, 0);
	fixture_expect_empty();
}
END_TEST

static void open_with_shared_refs(void)
{
	fixture_open();
	shared_refs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared_refs, MAP_FAILED);
}

static void close_with_shared_refs(void)
{
	munmap(shared_refs, 4096);
	fixture_close();
}

static Suite *suite(void)
{
	Suite *s = suite_create("right-stranger");
	TCase *t = tcase_create("turns"), *cut_ones = tcase_create("cut"), *both = tcase_create("at once");
	const int n_cuts = (int)(sizeof(cuts) / sizeof(cuts[0]));

	tcase_add_checked_fixture(t, open_with_shared_refs, close_with_shared_refs);
	tcase_add_test(t, owner_is_asked_once);
	tcase_add_test(t, nobody_is_asked);
	tcase_add_loop_test(t, every_way_to_come, 0, 3);
	tcase_add_loop_test(t, gone_meanwhile, 0, 2);
	tcase_add_loop_test(t, no_new_object_under_a_stranger, 0, 3);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(cut_ones, open_with_shared_refs, close_with_shared_refs);
	tcase_add_loop_test(cut_ones, cut_anywhere, 0, n_cuts);
	suite_add_tcase(s, cut_ones);
	tcase_add_checked_fixture(both, open_with_shared_refs, close_with_shared_refs);
	tcase_add_test(both, owner_and_stranger_at_once);
	suite_add_tcase(s, both);
	return s;
}

int main(void)
{
	return fixture_main(suite());
}
