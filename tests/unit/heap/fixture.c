// SPDX-License-Identifier: MIT
/*
 * A heap in the test's own process, for the unit tests
 *
 * Two anonymous shared memory files make the heap, so nothing is left behind however a test ends. Check runs each test
 * in a child of its own, so each test has a heap of its own.
 *
 * There is no socket: CALL() in fixture.h does what client and daemon do together when a session needs memory. All
 * sessions share one mapping, the daemon's; fixture_attach() makes another where a test needs one.
 */
#include "tests/unit/heap/fixture.h"

#include <inttypes.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct fixture fx;

static uint64_t random_state;
static struct cache recents[SESSIONS_MAX]; /* of a session by its index, as the client gives it one */

int fixture_admit(struct heap *heap, struct session *ret)
{
	struct session_identity claim = {.pid = getpid(), .start_time = 1, .token = {1, 2}, .program = "unit-test"};
	uint32_t index;
	int r = session_admit(fx.heap, &claim, &index);

	if (r < 0)
		return r;
	session_init(ret, heap, index);
	memset(&recents[index], 0, sizeof(recents[index]));
	session_begin_cache(ret, &recents[index]);
	ret->entry->is_fenced = heap->is_fenced; /* as session_take() does it */
	return 0;
}

void fixture_open_geometry(const struct heap_geometry *geometry)
{
	int control_fd = memfd_create("pyheap-unit-control", MFD_CLOEXEC);
	int heap_fd = memfd_create("pyheap-unit-heap", MFD_CLOEXEC);

	ck_assert_int_ge(control_fd, 0);
	ck_assert_int_ge(heap_fd, 0);
	memset(&fx, 0, sizeof(fx));
	ck_assert_int_eq(heap_create(&fx.heap, control_fd, heap_fd, "unit", geometry), 0);
	session_init(&fx.daemon, fx.heap, SESSION_DAEMON);
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		ck_assert_int_eq(fixture_admit(fx.heap, &fx.sessions[i]), 0);
	fixture_check();
}

void fixture_open(void)
{
	fixture_open_geometry(&(struct heap_geometry){
		.heap_size = FIXTURE_HEAP_SIZE,
		.arena_size = ARENA_SIZE_DEFAULT,
		.n_sessions = 2 * FIXTURE_SESSIONS,
	});
}

void fixture_close(void)
{
	fx.heap = heap_free(fx.heap);
}

struct heap *fixture_attach(void)
{
	struct heap *heap;
	int control_fd = dup(fx.heap->control_fd), heap_fd = dup(fx.heap->heap_fd);

	ck_assert_int_ge(control_fd, 0);
	ck_assert_int_ge(heap_fd, 0);
	ck_assert_int_eq(heap_attach(&heap, control_fd, heap_fd), 0);
	return heap;
}

int fixture_grant(struct session *session)
{
	uint32_t head, n_done = 0, n = session->n_wanted_arenas;
	int r = supply_reserve(fx.heap, session->index, n, &head);

	if (r == -ENOMEM && own_collect_all(session) > 0)
		return 0; /* as the client does: it has collected memory of its own */
	if (r == -ENOMEM) {
		fixture_trim(0);
		r = supply_reserve(fx.heap, session->index, n, &head);
	}
	if (r < 0)
		return r;
	while ((r = supply_map_step(fx.heap, head, 3, &n_done)) == 0)
		;
	ck_assert_int_eq(r, 1);
	ck_assert_uint_eq(n_done, n);
	return supply_accept(session, head);
}

void fixture_bury(struct session *session)
{
	int r;

	session_mark_dead(fx.heap, session->index);
	fixture_check();
	while ((r = session_reclaim_step(session)) == 1)
		fixture_check();
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(session->entry->state, SESSION_FREE);
	fixture_check();
}

void fixture_trim_sessions(void)
{
	for (uint32_t i = 0; i < fx.heap->n_sessions; i++)
		while (fx.heap->sessions[i].state == SESSION_ACTIVE && own_trim(&fx.daemon, i) == 1)
			;
}

void fixture_adopt_returning(void)
{
	uint32_t cursor = 0, head, n_done;
	int r;

	while ((r = supply_next_returning(&fx.daemon, &cursor, &head)) == 1) {
		n_done = 0;
		ck_assert_int_eq(supply_unmap_step(fx.heap, head, UINT32_MAX, &n_done), 1);
	}
	ck_assert_int_eq(r, 0);
}

uint32_t fixture_trim(uint32_t n_spare)
{
	uint32_t head, n_done, n = 0;
	int r;

	fixture_trim_sessions();
	while ((r = supply_pick_returning(&fx.daemon, n_spare, &head)) == 1) {
		n_done = 0;
		while (supply_has_lookup(fx.heap, head))
			;
		while ((r = supply_unmap_step(fx.heap, head, 3, &n_done)) == 0)
			;
		ck_assert_int_eq(r, 1);
		n++;
	}
	ck_assert(r == 0 || r == -EBUSY); /* a session of this test has the lock: the arenas go later */
	return n;
}

static void print_fault(void *userdata, const char *fault)
{
	(void)userdata;
	fprintf(stderr, "heap_check: %s\n", fault);
}

void fixture_check(void)
{
	ck_assert_int_eq(heap_check(&fx.sessions[0], print_fault, NULL), 0);
}

void fixture_note_fault(void *userdata, const char *fault)
{
	struct fixture_report *report = userdata;
	size_t length = strlen(report->all);

	report->n_faults++;
	report->found |= report->wanted && strstr(fault, report->wanted) != NULL;
	snprintf(report->all + length, sizeof(report->all) - length, "%s\n", fault);
}

struct heap_stats fixture_stats(void)
{
	struct heap_stats stats;
	uint32_t cursor = 0;

	while (heap_stats_step(&fx.daemon, &cursor, &stats))
		;
	return stats;
}

uint64_t fixture_heap_bytes(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(fx.heap->heap_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

uint64_t fixture_ops(uint64_t n)
{
	const char *value = getenv("PYHEAP_TEST_OPS");
	uint64_t limit = value ? strtoull(value, NULL, 10) : n;

	return limit < n ? limit : n;
}

void fixture_seed(void)
{
	const char *value = getenv("PYHEAP_TEST_SEED");
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	random_state = value ? strtoull(value, NULL, 10) : (uint64_t)now.tv_nsec + (uint64_t)now.tv_sec;
	fprintf(stderr, "PYHEAP_TEST_SEED=%" PRIu64 "\n", random_state);
}

uint64_t fixture_random(void) /* splitmix64 */
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint32_t fixture_below(uint32_t n)
{
	return (uint32_t)(fixture_random() % n);
}

int fixture_main(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int n_failed;

	srunner_run_all(runner, CK_NORMAL);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

uint64_t fixture_new(struct session *session, uint32_t type, size_t size)
{
	uint64_t ref = 0;

	MUST(session, object_new(session, type, size, &ref));
	ck_assert_uint_ne(ref, 0);
	return ref;
}

/* A type without slots, aligned to a page: its objects take whole pools. */
uint32_t fixture_pages_type(struct session *session)
{
	static const struct type_spec spec = {.name = "pages", .size = 1, .alignment = POOL_SIZE};
	uint32_t type = 0;

	for (uint32_t i = 0; i < fx.heap->control->n_types; i++)
		if (!strcmp(fx.heap->types[i].name, spec.name))
			return TYPE_FIRST_REGISTERED + i;
	MUST(session, type_register(session, &spec, &type));
	return type;
}

uint64_t fixture_bytes(struct session *session, size_t size)
{
	bool is_medium = size > BLOCK_SIZE_MAX && size <= MEDIUM_SIZE_MAX;

	return fixture_new(session, is_medium ? fixture_pages_type(session) : TYPE_BYTES, size);
}

uint64_t fixture_list(struct session *session, size_t n)
{
	return fixture_new(session, TYPE_LIST, 8 * n);
}

uint64_t fixture_queue(size_t n)
{
	uint64_t queue;

	MUST(S0, queue_new(S0, n, &queue));
	return queue;
}

void fixture_drop(struct session *session, uint64_t ref)
{
	MUST(session, object_decref(session, ref));
}

void fixture_warm_up(size_t size)
{
	uint64_t ref;

	ck_assert_int_eq(CALL(S0, object_new(S0, TYPE_BYTES, size, &ref)), 0);
	ck_assert_int_eq(object_decref(S0, ref), 0);
}

uint32_t fixture_n_owned(const struct session *session)
{
	uint32_t n = 0;

	for (uint32_t i1 = session->entry->owned_pools1; i1; i1 = fx.heap->pools[i1 - 1].owned_next1) {
		ck_assert_uint_eq(fx.heap->pools[i1 - 1].owner1, session->owner1);
		n++;
	}
	return n;
}

void fixture_give_up(struct session *session, uint64_t ref)
{
	struct hold *hold = hold_find(session, ref);
	struct object object;
	int r = 0;

	ck_assert_int_eq(change_begin(session), 0);
	ck_assert_int_eq(object_find(fx.heap, ref, &object), 0);
	if (hold) {
		ck_assert(hold_remove(session, hold));
		r = right_drop(session, &object);
	} else {
		ck_assert_uint_eq(object.pool->owner1, session->owner1);
		ck_assert_uint_eq(header_own(object.word), 1);
		ck_assert_uint_eq(rights_count(object.header->rights), 0);
		heap_set(fx.heap, &object.header->word, object.word - 1);
		heap_add(fx.heap, &session->entry->n_own_holds, -1);
		r = right_end(session, &object);
	}
	ck_assert_int_eq(change_end(session, r), 0);
	ck_assert_uint_eq(ref_state(ref), STATE_DYING);
}

void fixture_expect_count(int64_t want, uint64_t ref)
{
	ck_assert_int_eq(object_refcount(S2, ref), want);
	fixture_check();
}

void fixture_expect_gone(uint64_t ref)
{
	struct object object;

	ck_assert_int_eq(object_lookup(S2, ref, &object), -ESTALE);
}

void fixture_expect_empty(void)
{
	fixture_check();
	fixture_trim(0);
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}

void fixture_finish(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}

bool fixture_lock_is_awaited(void)
{
	return __atomic_load_n(&fx.heap->control->lock.word, __ATOMIC_ACQUIRE) & FUTEX_WAITERS;
}

uint64_t fixture_blocks_used(void)
{
	struct heap_stats stats;
	uint64_t n = 0;

	stats = fixture_stats();
	for (uint32_t i = 0; i < N_CLASSES; i++)
		n += stats.classes[i].n_used;
	return n;
}
