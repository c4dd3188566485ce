// SPDX-License-Identifier: MIT
/*
 * The daemon killed a thousand times under four clients at work
 *
 * Each client keeps a model of what it has: objects with contents made from a key, held so and so often, in its list,
 * under a name. A number of tokens go round from one to the next through queues. Some objects are large, so that arenas
 * are granted and returned all the time. No call may fail; at the end each model is compared with the heap, each token
 * is there once, and what is dropped leaves nothing behind.
 *
 * The daemon is killed at random moments: half of the time after it serves, else maybe while it still adopts the heap.
 *
 * PYHEAP_RESTARTS=N   kills, 1000 unless given
 * PYHEAP_SEED=N       of the sequence, random unless given; the interleaving is the machine's own
 */
#include "fixture.h"

#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define N_WORKERS  4
#define N_PLACES   64
#define N_TOKENS   24
#define N_RESTARTS 1000

/* Of all processes. */
struct shared {
	uint32_t n_ready, stop;
	struct {
		uint64_t n_ops, n_hops, n_bytes;
	} workers[N_WORKERS];
};

struct token {
	uint64_t id;
	uint64_t n_hops;
	uint64_t sum; /* of the two */
};

/* What a worker's model has in one of its places. */
struct cell {
	pyheap_ref ref; /* 0: nothing there */
	uint64_t key;
	size_t size;
	uint32_t n_holds;
	bool in_list, has_name;
};

struct worker {
	uint32_t number;
	uint64_t random;
	pyheap *heap;
	pyheap_ref list, from, to;
	struct cell places[N_PLACES];
};

static struct shared *shared;
static uint64_t seed;

/* Helpers. */

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t random_below(uint64_t *state, uint64_t n)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return mix(*state) % n;
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *value = getenv(variable);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

static void pattern_fill(uint8_t *data, size_t size, uint64_t key)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = mix(key + i);

		memcpy(data + i, &word, size - i < 8 ? size - i : 8);
	}
}

static bool pattern_is(const uint8_t *data, size_t size, uint64_t key)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = mix(key + i);

		if (memcmp(data + i, &word, size - i < 8 ? size - i : 8) != 0)
			return false;
	}
	return true;
}

static void name_of(const char *what, uint32_t worker, uint32_t i, char ret[32])
{
	snprintf(ret, 32, "%s %u %u", what, worker, i);
}

/* A worker's places. */

static size_t random_size(uint64_t *random)
{
	switch (random_below(random, 10)) {
	case 0:
		return 1 + random_below(random, 4 << 20); /* mostly whole arenas */
	case 1:
	case 2:
		return 1 + random_below(random, 64 << 10); /* whole pools */
	default:
		return 1 + random_below(random, 512);
	}
}

static void place_fill(struct worker *worker, struct cell *place)
{
	*place = (struct cell){.size = random_size(&worker->random), .key = random_below(&worker->random, UINT64_MAX)};
	ck_ok(pyheap_new(worker->heap, PYHEAP_BYTES, place->size, &place->ref));
	pattern_fill(pyheap_data(worker->heap, place->ref), place->size, place->key);
	place->n_holds = 1;
	shared->workers[worker->number].n_bytes += place->size;
}

static void place_verify(struct worker *worker, const struct cell *place)
{
	uint32_t n_rights = place->n_holds + place->in_list + place->has_name;

	ck_assert_int_eq(pyheap_refcount(worker->heap, place->ref), n_rights);
	ck_assert_int_eq(pyheap_size(worker->heap, place->ref), (ssize_t)place->size);
	ck_assert_msg(pattern_is(pyheap_data(worker->heap, place->ref), place->size, place->key),
		"the content of %#llx, %zu bytes, is not what was put there", (unsigned long long)place->ref,
		place->size);
}

/* What nobody has a right to is gone. */
static void place_settle(struct worker *worker, struct cell *place)
{
	if (place->n_holds || place->in_list || place->has_name)
		return;
	ck_err(pyheap_size(worker->heap, place->ref), ESTALE);
	place->ref = 0;
}

static void place_turn_hold(struct worker *worker, struct cell *place)
{
	if (place->n_holds && random_below(&worker->random, 3)) {
		ck_ok(pyheap_decref(worker->heap, place->ref));
		place->n_holds--;
	} else {
		ck_ok(pyheap_incref(worker->heap, place->ref));
		place->n_holds++;
	}
}

static void place_turn_slot(struct worker *worker, struct cell *place)
{
	size_t i = (size_t)(place - worker->places);
	pyheap_ref got;

	ck_ok(pyheap_list_get(worker->heap, worker->list, i, &got));
	ck_assert_uint_eq(got, place->in_list ? place->ref : 0);
	place->n_holds += got != 0;
	ck_ok(pyheap_list_set(worker->heap, worker->list, i, place->in_list ? 0 : place->ref));
	place->in_list = !place->in_list;
}

static void place_turn_name(struct worker *worker, struct cell *place)
{
	pyheap_ref got;
	char name[32];

	name_of("place", worker->number, (uint32_t)(place - worker->places), name);
	if (!place->has_name) {
		ck_err(pyheap_name_get(worker->heap, name, &got), ENOENT);
		ck_ok(pyheap_name_set(worker->heap, name, place->ref));
	} else {
		ck_ok(pyheap_name_get(worker->heap, name, &got));
		ck_assert_uint_eq(got, place->ref);
		place->n_holds++;
		ck_ok(pyheap_name_del(worker->heap, name));
	}
	place->has_name = !place->has_name;
}

static void place_empty(struct worker *worker, struct cell *place)
{
	place_verify(worker, place);
	if (place->has_name)
		place_turn_name(worker, place);
	if (place->in_list)
		place_turn_slot(worker, place);
	for (; place->n_holds; place->n_holds--)
		ck_ok(pyheap_decref(worker->heap, place->ref));
	place_settle(worker, place);
}

/* A worker. */

static void pass_token(struct worker *worker)
{
	struct token *token;
	pyheap_ref ref;
	int r;

	r = pyheap_queue_pop(worker->heap, worker->from, &ref, 0);
	if (r == -EAGAIN)
		return;
	ck_ok(r);
	ck_assert_int_eq(pyheap_refcount(worker->heap, ref), 1);
	token = pyheap_data(worker->heap, ref);
	ck_assert_uint_eq(token->sum, token->id + token->n_hops);
	token->n_hops++;
	token->sum++;
	ck_ok(pyheap_queue_push(worker->heap, worker->to, ref, -1));
	shared->workers[worker->number].n_hops++;
}

static void work_once(struct worker *worker)
{
	struct cell *place = &worker->places[random_below(&worker->random, N_PLACES)];
	uint64_t what = random_below(&worker->random, 16);

	shared->workers[worker->number].n_ops++;
	if (what < 3) {
		pass_token(worker);
		return;
	}
	if (!place->ref) {
		place_fill(worker, place);
		return;
	}
	if (what < 6)
		place_turn_hold(worker, place);
	else if (what < 9)
		place_turn_slot(worker, place);
	else if (what < 12)
		place_turn_name(worker, place);
	else if (what < 14)
		place_verify(worker, place);
	else
		place_empty(worker, place);
	if (place->ref)
		place_settle(worker, place);
}

static void work(void *userdata)
{
	struct worker worker = {.number = (uint32_t)(uintptr_t)userdata};
	char name[32];

	worker.random = mix(seed + worker.number);
	worker.heap = fixture_open(&fx);
	ck_ok(pyheap_set_timeout(worker.heap, 120000));
	ck_ok(pyheap_list_new(worker.heap, N_PLACES, &worker.list));
	name_of("queue", worker.number, 0, name);
	ck_ok(pyheap_name_get(worker.heap, name, &worker.from));
	name_of("queue", (worker.number + 1) % N_WORKERS, 0, name);
	ck_ok(pyheap_name_get(worker.heap, name, &worker.to));
	__atomic_fetch_add(&shared->n_ready, 1, __ATOMIC_RELAXED);
	while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED))
		work_once(&worker);
	for (size_t i = 0; i < N_PLACES; i++)
		if (worker.places[i].ref)
			place_empty(&worker, &worker.places[i]);
	ck_assert_int_eq(pyheap_refcount(worker.heap, worker.list), 1);
	pyheap_close(worker.heap);
}

/* The daemon. */

/* As fixture_start_again(), without waiting for it. */
static void exec_daemon(void *userdata)
{
	(void)userdata;
	if (!freopen(fx.log, "a", stderr))
		_exit(125);
	execl(getenv("PYHEAPD"), "pyheapd", "--name", fx.name, "--socket", fx.socket, "--size", "256M", (char *)NULL);
	_exit(126);
}

static void kill_daemon(void)
{
	int status = fixture_stop(&fx, SIGKILL);

	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		"pyheapd had ended by itself, status 0x%x; its log is %s", (unsigned int)status, fx.log);
}

static uint64_t log_count(const char *text)
{
	FILE *file = fopen(fx.log, "re");
	uint64_t n_lines = 0;
	char line[512];

	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file))
		n_lines += strstr(line, text) != NULL;
	fclose(file);
	return n_lines;
}

static void kill_often(pyheap *heap, uint64_t n, const pid_t *pids)
{
	uint64_t random = mix(seed + 1000);

	for (uint64_t i = 0; i < n; i++) {
		kill_daemon();
		usleep((useconds_t)(random_below(&random, 4) ? 0 : random_below(&random, 20000)));
		fx.pid = fixture_fork(exec_daemon, NULL);
		if (random_below(&random, 2))
			ck_ok(pyheap_dispatch(heap)); /* it serves */
		usleep((useconds_t)random_below(&random, 30000));
		for (int j = 0; j < N_WORKERS; j++)
			ck_assert_int_eq(waitpid(pids[j], NULL, WNOHANG), 0);
	}
}

/* The test. */

static void make_queues(pyheap *heap, pyheap_ref queues[N_WORKERS])
{
	char name[32];

	for (uint32_t i = 0; i < N_WORKERS; i++) {
		ck_ok(pyheap_queue_new(heap, N_TOKENS, &queues[i]));
		name_of("queue", i, 0, name);
		ck_ok(pyheap_name_set(heap, name, queues[i]));
	}
	for (uint64_t id = 0; id < N_TOKENS; id++) {
		struct token token = {.id = id, .sum = id};
		pyheap_ref ref;

		ck_ok(pyheap_put(heap, &token, sizeof(token), &ref));
		ck_ok(pyheap_queue_push(heap, queues[id % N_WORKERS], ref, 0));
	}
}

static void take_tokens(pyheap *heap, const pyheap_ref queues[N_WORKERS])
{
	uint64_t n_known[N_TOKENS] = {0}, n_hops = 0, n_hops_said = 0;
	pyheap_ref ref;
	char name[32];

	for (uint32_t i = 0; i < N_WORKERS; i++) {
		while (pyheap_queue_pop(heap, queues[i], &ref, 0) == 0) {
			const struct token *token = pyheap_data(heap, ref);

			ck_assert_uint_lt(token->id, N_TOKENS);
			n_known[token->id]++;
			n_hops += token->n_hops;
			ck_ok(pyheap_decref(heap, ref));
		}
		n_hops_said += shared->workers[i].n_hops;
		name_of("queue", i, 0, name);
		ck_ok(pyheap_name_del(heap, name));
		ck_ok(pyheap_decref(heap, queues[i]));
	}
	for (int i = 0; i < N_TOKENS; i++)
		ck_assert_uint_eq(n_known[i], 1);
	ck_assert_uint_eq(n_hops, n_hops_said);
}

static void print_figures(pyheap *heap, uint64_t n, time_t seconds)
{
	uint64_t n_ops = 0, n_hops = 0, n_bytes = 0;
	pyheap_stats stats;

	ck_ok(pyheap_stats(heap, &stats));
	for (int i = 0; i < N_WORKERS; i++) {
		n_ops += shared->workers[i].n_ops;
		n_hops += shared->workers[i].n_hops;
		n_bytes += shared->workers[i].n_bytes;
	}
	printf("seed %llu: %llu kills of the daemon in %lld s, %llu of them while it served; %llu times a session was "
	       "resumed; %llu operations, %llu tokens passed, %llu MiB filled, %llu arenas allocated, "
	       "%llu recoveries of the lock; nothing lost\n",
		(unsigned long long)seed, (unsigned long long)n, (long long)seconds,
		(unsigned long long)log_count("serving the heap") - 1, (unsigned long long)log_count("is resumed"),
		(unsigned long long)n_ops, (unsigned long long)n_hops, (unsigned long long)n_bytes >> 20,
		(unsigned long long)stats.n_arenas_allocated, (unsigned long long)stats.n_lock_recoveries);
}

/* Everything is dropped; what is left is this session. */
static void expect_nothing_left(pyheap *heap)
{
	pyheap_stats stats;

	fixture_until(pyheap_stats(heap, &stats) == 0 && stats.n_sessions == 1);
	for (int i = 0; i < PYHEAP_CLASSES; i++)
		ck_assert_uint_eq(stats.classes[i].n_used, 0);
	ck_assert_uint_eq(stats.n_medium_objects + stats.n_large_objects + stats.n_names, 0);
	ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
	fixture_until(pyheap_stats(heap, &stats) == 0 && stats.n_arenas_current <= 1);
}

START_TEST(nothing_is_lost)
{
	static const char *const args[] = {"--size", "256M", NULL};
	uint64_t n = number_from("PYHEAP_RESTARTS", N_RESTARTS);
	pyheap_ref queues[N_WORKERS];
	pid_t pids[N_WORKERS];
	time_t began = time(NULL);
	pyheap *heap;

	seed = number_from("PYHEAP_SEED", (uint64_t)began ^ (uint64_t)getpid() << 20);
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	fixture_start(&fx, args);
	heap = fixture_open(&fx);
	ck_ok(pyheap_set_timeout(heap, 120000));
	make_queues(heap, queues);
	for (uintptr_t i = 0; i < N_WORKERS; i++)
		pids[i] = fixture_fork(work, (void *)i);
	fixture_until(__atomic_load_n(&shared->n_ready, __ATOMIC_RELAXED) == N_WORKERS);
	kill_often(heap, n, pids);
	__atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < N_WORKERS; i++)
		ck_ok(fixture_wait(pids[i]));
	take_tokens(heap, queues);
	expect_nothing_left(heap);
	print_figures(heap, n, time(NULL) - began);
	pyheap_close(heap);
	fixture_teardown();
	munmap(shared, sizeof(*shared));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("restart kills");
	TCase *tcase = tcase_create("all");

	tcase_add_test(tcase, nothing_is_lost);
	suite_add_tcase(suite, tcase);
	return fixture_main(suite);
}
