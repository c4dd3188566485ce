// SPDX-License-Identifier: MIT
/*
 * Sessions at the same time
 *
 * In the other unit tests one session acts after the other. Here each session has a thread of its own, all in one
 * process and on one mapping, so that ThreadSanitizer, which sees one process only, can say whether every access to
 * shared memory that is made without the lock is atomic and ordered as it must be. Some threads make, hold, hand over
 * and drop objects in every way; one dies now and then with all that it has; one checks and counts the heap; and one
 * plays the daemon, which the others ask through a mutex and a condition as clients do through their sockets.
 *
 * An object's contents follow from its ref, so each thread that gets one compares. In the end all is dropped and
 * nothing must be left. $PYHEAP_TEST_OPS makes a run shorter.
 */
#include "tests/unit/heap/fixture.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum {
	N_WORKERS = FIXTURE_SESSIONS - 1, /* the last of the fixture's sessions is the walker's */
	N_HOLDS = 120,                    /* of a worker at a time */
	N_NAMES = 6,
	N_PLACES = 8,   /* of the shared list and of each queue */
	N_ON_BOARD = 16 /* refs that any thread may try */
};

#define WALKER (&fx.sessions[FIXTURE_SESSIONS - 1])
#define STAMP  UINT64_C(0x5bd1e9955bd1e995)

/* No ck_assert() here: Check wants those in the test's own thread. A child that aborts is a failed test. */
#define EXPECT_THAT(condition)                                                                                         \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* What a session wants of the daemon. */
enum wish { WISH_NONE, WISH_ARENAS, WISH_BURIAL };

struct worker {
	pthread_t thread;
	struct session session;
	uint64_t random;
	uint64_t n_ops;
	uint64_t holds[N_HOLDS]; /* one for each time that it holds something; 0: none */
	enum wish wish;          /* under `socket`, as all that the daemon answers: */
	uint32_t head;
	int result;
};

static struct worker workers[N_WORKERS + 1]; /* the last one dies now and then */
static uint64_t shared_list, queues[N_WORKERS];
static uint64_t board[N_ON_BOARD];
static pthread_mutex_t socket_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static bool is_over; /* atomic: the workers are done */

static void pause_a_little(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

/* The daemon. */

static void unmap(uint32_t head)
{
	uint32_t n_done = 0;

	while (supply_has_lookup(fx.heap, head))
		;
	while (supply_unmap_step(fx.heap, head, 3, &n_done) == 0)
		;
}

static bool return_one(uint32_t n_spare)
{
	uint32_t head;

	if (supply_pick_returning(&fx.daemon, n_spare, &head) != 1)
		return false;
	unmap(head);
	return true;
}

static void grant(struct worker *w)
{
	uint32_t n_done = 0, n = w->session.n_wanted_arenas;
	int r = supply_reserve(fx.heap, w->session.index, n, &w->head);

	while (r == -ENOMEM && return_one(0))
		r = supply_reserve(fx.heap, w->session.index, n, &w->head);
	while (!r)
		r = supply_map_step(fx.heap, w->head, 3, &n_done);
	w->result = r == 1 ? 0 : r;
}

/* The session dies; its thread goes on with another one. */
static void bury(struct worker *w)
{
	struct session dead;
	int r;

	session_mark_dead(fx.heap, w->session.index);
	session_init(&dead, fx.heap, w->session.index);
	while ((r = session_reclaim_step(&dead)) == 1 || r == -EBUSY)
		;
	EXPECT_THAT(!r);
	w->result = fixture_admit(fx.heap, &w->session);
}

static void serve(struct worker *w)
{
	pthread_mutex_lock(&socket_mutex);
	if (w->wish != WISH_NONE) {
		w->wish == WISH_ARENAS ? grant(w) : bury(w);
		w->wish = WISH_NONE;
		pthread_cond_broadcast(&answered);
	}
	pthread_mutex_unlock(&socket_mutex);
}

static void collect(uint32_t index, bool ask)
{
	int r;

	if (fx.heap->sessions[index].state != SESSION_ACTIVE)
		return;
	if (ask)
		critical_request(fx.heap, index, REQUEST_COLLECT);
	r = own_trim(&fx.daemon, index);
	EXPECT_THAT(r >= 0 || r == -EBUSY);
}

static void *daemon_run(void *unused)
{
	for (uint32_t turn = 0; !__atomic_load_n(&is_over, __ATOMIC_ACQUIRE); turn++) {
		for (uint32_t i = 0; i <= N_WORKERS; i++)
			serve(&workers[i]);
		collect(turn % fx.heap->n_sessions, turn & 8);
		return_one(1);
		pause_a_little();
	}
	return unused;
}

static int ask_daemon(struct worker *w, enum wish wish)
{
	int r;

	pthread_mutex_lock(&socket_mutex);
	w->wish = wish;
	while (w->wish != WISH_NONE)
		pthread_cond_wait(&answered, &socket_mutex);
	r = w->result;
	pthread_mutex_unlock(&socket_mutex);
	if (r || wish != WISH_ARENAS)
		return r;
	return supply_accept(&w->session, w->head);
}

/* As CALL() of the fixture, whose daemon would be this thread. */
#define ASK(w, call)                                                                                                   \
	({                                                                                                             \
		int ask_r;                                                                                             \
		while ((ask_r = (call)) == HEAP_WANTS_ARENAS) {                                                        \
			ask_r = ask_daemon((w), WISH_ARENAS);                                                          \
			if (ask_r < 0)                                                                                 \
				break;                                                                                 \
		}                                                                                                      \
		ask_r;                                                                                                 \
	})

/* What a worker holds. */

static uint32_t below(struct worker *w, uint32_t n) /* splitmix64 */
{
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ z >> 31) % n);
}

/* Bytewise, and atomically: a lookup without the lock of a freed object may read what is there now, and ignores it. */
static void store_word(uint8_t *to, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		__atomic_store_n(&to[i], (uint8_t)(value >> 8 * i), __ATOMIC_RELAXED);
}

/* The first and last words of what has bytes. */
static void stamp(uint64_t ref, size_t size)
{
	store_word(ref_data(ref), ref ^ STAMP);
	store_word(ref_data(ref) + size - 8, ref ^ STAMP);
}

static void compare(struct worker *w, uint64_t ref)
{
	struct object object;
	uint64_t first, last;

	EXPECT_THAT(object_lookup(&w->session, ref, &object) == 0);
	if (object.type != TYPE_BYTES)
		return;
	memcpy(&first, object.data, 8);
	memcpy(&last, object.data + object.size - 8, 8);
	EXPECT_THAT(first == (ref ^ STAMP) && last == first);
}

static void drop(struct worker *w, uint64_t *hold)
{
	int r;

	compare(w, *hold);
	r = object_decref(&w->session, *hold);
	EXPECT_THAT(!r);
	*hold = 0;
}

/* Room for a hold, dropping one if need be. */
static uint64_t *place(struct worker *w)
{
	uint64_t *hold = &w->holds[below(w, N_HOLDS)];

	if (*hold)
		drop(w, hold);
	return hold;
}

/* An object that it holds; NULL where none was found. */
static uint64_t *pick(struct worker *w)
{
	for (int i = 0; i < 20; i++) {
		uint64_t *hold = &w->holds[below(w, N_HOLDS)];

		if (*hold)
			return hold;
	}
	return NULL;
}

/* An object that a call gave, if it gave one. */
static void keep(struct worker *w, uint64_t *hold, uint64_t ref)
{
	*hold = ref;
	if (ref)
		compare(w, ref);
}

/* What it does. */

static size_t random_size(struct worker *w)
{
	uint32_t n;

	switch (below(w, 200)) {
	case 0:
		n = 2 * ARENA_SIZE_DEFAULT;
		break;
	case 1 ... 8:
		n = 6 * POOL_SIZE;
		break;
	default:
		n = below(w, 3) ? 24 : 600;
	}
	return 8 + below(w, n) / 8 * 8; /* for two stamps */
}

static void op_new(struct worker *w)
{
	uint64_t *hold = place(w);
	size_t size = random_size(w);
	int r = ASK(w, object_new(&w->session, TYPE_BYTES, size, hold));

	EXPECT_THAT(!r || r == -ENOMEM);
	if (r)
		*hold = 0;
	else
		stamp(*hold, size);
}

/* A list of what it holds. Of bytes alone: there must be no cycles. */
static void op_new_list(struct worker *w)
{
	uint64_t *hold = place(w), *child;
	struct object object;
	uint32_t n = 1 + below(w, 20);
	int r = ASK(w, object_new(&w->session, TYPE_LIST, n * sizeof(uint64_t), hold));

	EXPECT_THAT(!r || r == -ENOMEM);
	if (r)
		*hold = 0;
	for (uint32_t i = 0; !r && i < n; i++) {
		child = pick(w);
		if (!child || object_lookup(&w->session, *child, &object) || object.type != TYPE_BYTES)
			continue;
		EXPECT_THAT(list_set(&w->session, *hold, i, *child) == 0);
	}
}

static void op_drop(struct worker *w)
{
	uint64_t *hold = pick(w);

	if (hold)
		drop(w, hold);
}

static void op_hold(struct worker *w)
{
	uint64_t *hold = place(w), *from = pick(w);

	if (!from)
		return;
	EXPECT_THAT(ASK(w, object_incref(&w->session, *from)) == 0);
	keep(w, hold, *from);
}

static void op_tell(struct worker *w)
{
	uint64_t *hold = pick(w);

	if (hold) /* release: the object's content */
		__atomic_store_n(&board[below(w, N_ON_BOARD)], *hold, __ATOMIC_RELEASE);
}

/* A ref from the board: its object may be freed, or may be freed at this moment. */
static void op_hear(struct worker *w)
{
	uint64_t *hold = place(w), ref = __atomic_load_n(&board[below(w, N_ON_BOARD)], __ATOMIC_ACQUIRE);
	int r;

	if (!ref)
		return;
	r = ASK(w, object_incref(&w->session, ref));
	EXPECT_THAT(!r || r == -ESTALE || r == -EINVAL); /* -EINVAL: a record lies there now */
	if (!r)
		keep(w, hold, ref);
}

static void op_push(struct worker *w)
{
	uint64_t *hold = pick(w);
	int r;

	if (!hold)
		return;
	r = queue_push(&w->session, queues[below(w, N_WORKERS)], *hold, (int)below(w, 2));
	EXPECT_THAT(!r || r == -EAGAIN || r == -ETIMEDOUT);
	if (!r)
		*hold = 0;
}

static void op_pop(struct worker *w)
{
	uint64_t *hold = place(w), ref = 0;
	int r = ASK(w, queue_pop(&w->session, queues[below(w, N_WORKERS)], &ref, (int)below(w, 2)));

	EXPECT_THAT(!r || r == -EAGAIN || r == -ETIMEDOUT);
	keep(w, hold, r ? 0 : ref);
}

static void op_list(struct worker *w)
{
	uint64_t *hold = pick(w), *to = NULL, i = below(w, N_PLACES), ref = 0;
	struct object object;

	if (below(w, 2) || !hold || object_lookup(&w->session, *hold, &object) || object.type != TYPE_BYTES) {
		to = place(w);
		EXPECT_THAT(ASK(w, list_get(&w->session, shared_list, i, &ref)) == 0);
		keep(w, to, ref);
	} else {
		EXPECT_THAT(list_set(&w->session, shared_list, i, *hold) == 0);
	}
}

static void op_name(struct worker *w)
{
	uint64_t *hold, ref = 0;
	char name[] = {'n', (char)('0' + below(w, N_NAMES)), 0};
	int r = 0;

	switch (below(w, 3)) {
	case 0:
		hold = pick(w);
		if (hold)
			r = ASK(w, name_set(&w->session, name, *hold));
		break;
	case 1:
		hold = place(w);
		r = ASK(w, name_get(&w->session, name, &ref));
		keep(w, hold, r ? 0 : ref);
		break;
	default:
		r = name_del(&w->session, name);
	}
	EXPECT_THAT(!r || r == -ENOENT);
}

static void op_look(struct worker *w)
{
	uint64_t *hold = pick(w);

	if (hold)
		EXPECT_THAT(object_refcount(&w->session, *hold) > 0);
}

/* Several changes under the lock at once. */
static void op_locked(struct worker *w)
{
	EXPECT_THAT(session_lock(&w->session) == 0);
	op_drop(w);
	op_drop(w);
	EXPECT_THAT(session_unlock(&w->session) == 0);
}

static const struct {
	void (*op)(struct worker *w);
	uint32_t share;
} ops[] = {
	{op_new, 30},
	{op_new_list, 3},
	{op_drop, 20},
	{op_hold, 8},
	{op_tell, 10},
	{op_hear, 15},
	{op_push, 10},
	{op_pop, 10},
	{op_list, 8},
	{op_name, 4},
	{op_look, 3},
	{op_locked, 1},
};

static void operate(struct worker *w)
{
	uint32_t total = 0, dice;

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		total += ops[i].share;
	dice = below(w, total);
	for (size_t i = 0;; i++) {
		if (dice < ops[i].share) {
			ops[i].op(w);
			return;
		}
		dice -= ops[i].share;
	}
}

static void *worker_run(void *userdata)
{
	struct worker *w = userdata;

	for (uint64_t op = 0; op < w->n_ops; op++)
		operate(w);
	for (uint32_t i = 0; i < N_HOLDS; i++)
		if (w->holds[i])
			drop(w, &w->holds[i]);
	EXPECT_THAT(ASK(w, object_decref(&w->session, shared_list)) == 0);
	return NULL;
}

/* Dies with all that it holds, and comes again. */
static void *mortal_run(void *userdata)
{
	struct worker *w = userdata;

	for (int life = 0; life < 5; life++) {
		EXPECT_THAT(session_take(&w->session, (uint64_t[]){1, 2}));
		for (uint64_t op = 0; op < w->n_ops / 5; op++)
			operate(w);
		EXPECT_THAT(ask_daemon(w, WISH_BURIAL) == 0);
		memset(w->holds, 0, sizeof(w->holds));
	}
	return NULL;
}

/* The walker. */

static void tell_fault(void *userdata, const char *fault)
{
	(void)userdata;
	fprintf(stderr, "heap_check: %s\n", fault);
}

static void walk_figures(void)
{
	uint32_t stats_cursor = 0;
	uint64_t cursor = 0, ref;
	char name[256];
	struct heap_client info;
	struct heap_stats s;

	while (heap_stats_step(WALKER, &stats_cursor, &s))
		;
	EXPECT_THAT(s.bytes_allocated_blocks + s.bytes_available_blocks + s.bytes_unused_pools + s.bytes_pool_headers +
			    s.bytes_quantization + s.bytes_medium_objects + s.bytes_large_objects + s.bytes_records ==
		    s.bytes_total);
	while (heap_client_next(WALKER, &cursor, &info) == 1)
		;
	cursor = 0;
	while (name_next(WALKER, &cursor, name, &ref) == 1)
		EXPECT_THAT(name[0] == 'n');
}

static void *walker_run(void *unused)
{
	while (!__atomic_load_n(&is_over, __ATOMIC_ACQUIRE)) {
		EXPECT_THAT(heap_check(WALKER, tell_fault, NULL) == 0);
		walk_figures();
		pause_a_little();
	}
	return unused;
}

/* The tests. */

static void set_up(void)
{
	fixture_seed();
	memset(board, 0, sizeof(board));
	is_over = false;
	MUST(WALKER, object_new(WALKER, TYPE_LIST, N_PLACES * sizeof(uint64_t), &shared_list));
	for (uint32_t i = 0; i < N_WORKERS; i++)
		MUST(WALKER, queue_new(WALKER, N_PLACES, &queues[i]));
	for (uint32_t i = 0; i <= N_WORKERS; i++) {
		struct worker *w = &workers[i];

		w->random = fixture_random();
		w->n_ops = fixture_ops(20000);
		w->session = fx.sessions[i];
		if (i == N_WORKERS)
			ck_assert_int_eq(fixture_admit(fx.heap, &w->session), 0);
		else
			MUST(&w->session, object_incref(&w->session, shared_list));
	}
}

static void run_all(void)
{
	pthread_t daemon, walker;

	for (uint32_t i = 0; i <= N_WORKERS; i++)
		ck_assert_int_eq(
			pthread_create(&workers[i].thread, NULL, i < N_WORKERS ? worker_run : mortal_run, &workers[i]),
			0);
	ck_assert_int_eq(pthread_create(&daemon, NULL, daemon_run, NULL), 0);
	ck_assert_int_eq(pthread_create(&walker, NULL, walker_run, NULL), 0);
	for (uint32_t i = 0; i <= N_WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	__atomic_store_n(&is_over, true, __ATOMIC_RELEASE);
	pthread_join(daemon, NULL);
	pthread_join(walker, NULL);
}

static void nothing_is_left(void)
{
	char name[] = "n0";

	for (uint32_t i = 0; i < N_NAMES; i++, name[1]++)
		(void)name_del(WALKER, name);
	for (uint32_t i = 0; i < N_WORKERS; i++)
		fixture_drop(WALKER, queues[i]);
	fixture_drop(WALKER, shared_list);
	for (uint32_t i = 0; i < fx.heap->n_sessions; i++) {
		ck_assert_uint_eq(fx.heap->sessions[i].n_holds, 0);
		ck_assert_uint_eq(fx.heap->sessions[i].n_own_holds, 0);
	}
	fixture_trim(0);
	fixture_check();
	ck_assert_uint_eq(fixture_heap_bytes(), 0);
}

/* _i: the sessions execute their own barriers */
START_TEST(all_at_once)
{
	fx.heap->is_fenced = _i;
	for (uint32_t i = 0; i < FIXTURE_SESSIONS; i++)
		ck_assert(session_take(&fx.sessions[i], (uint64_t[]){1, 2}));
	set_up();
	run_all();
	nothing_is_left();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("threads");
	TCase *tcase = tcase_create("threads");

	tcase_add_checked_fixture(tcase, fixture_open, fixture_close);
	tcase_add_loop_test(tcase, all_at_once, 0, 2);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
