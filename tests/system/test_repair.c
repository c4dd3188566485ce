// SPDX-License-Identifier: MIT
/*
 * The heap is repaired while its clients work
 *
 * Four clients make, hand over, name and drop objects, and read their contents all the time, mostly without the lock,
 * in pools of their own. The test maps the shared memory and damages what is derived: a whole kind of it at once, under
 * the lock and while the clients are stopped between two calls, so that they find it repaired; or so that they work on
 * it until `pyheapctl check --repair` comes, and get -EUCLEAN meanwhile. Nothing that is held, named or queued is lost
 * either way.
 *
 * Each single damage, and a repairer that is killed: tests/unit/heap/repair/test_repair*.c.
 *
 * $PYHEAP_REPAIR_KILLS: kills of a repairer, 20 unless given, 100 in the full tier; all other work is in proportion.
 */
#include "fixture.h"

#include "heap/shared/layout.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define N_WORKERS 4
#define N_OBJECTS 150

/* Between the test and its workers. */
struct shared {
	uint32_t stop;
	uint32_t tolerant; /* -EUCLEAN may be the answer of any call */
	uint64_t n_rounds[N_WORKERS];
	uint64_t n_refused[N_WORKERS]; /* by -EUCLEAN */
};

struct worker {
	pyheap *heap;
	pyheap_ref refs[N_OBJECTS];
	pyheap_ref queue;
	unsigned int seed;
	int index;
};

static struct shared *shared;
static uint64_t n_kills; /* $PYHEAP_REPAIR_KILLS */
static pyheap *heap;
static pid_t pids[N_WORKERS];

/* Workers. */

static uint8_t pattern(pyheap_ref ref, size_t i)
{
	return (uint8_t)(ref * 13 + (ref >> 36) * 3 + i);
}

static bool is_intact(const struct worker *worker, pyheap_ref ref)
{
	const uint8_t *data = pyheap_data(worker->heap, ref);
	ssize_t size = pyheap_size(worker->heap, ref);

	for (ssize_t i = 0; data && i < size; i++)
		if (data[i] != pattern(ref, (size_t)i))
			return false;
	return data;
}

/* True where the call succeeds. A call that the damaged heap refuses changes nothing, and is made again later. */
static bool went_well(const struct worker *worker, int r)
{
	if (r == -EUCLEAN && __atomic_load_n(&shared->tolerant, __ATOMIC_ACQUIRE)) {
		shared->n_refused[worker->index]++;
		return false;
	}
	ck_assert_msg(r == 0, "a worker is told: %s", pyheap_strerror(r));
	return true;
}

static void replace(struct worker *worker, int k)
{
	int kind = rand_r(&worker->seed) % 20;
	size_t size = (size_t)rand_r(&worker->seed) % (kind < 17 ? 513U : kind < 19 ? 60000U : 500000U);
	uint8_t *data;

	if (worker->refs[k]) {
		ck_assert(is_intact(worker, worker->refs[k]));
		if (!went_well(worker, pyheap_decref(worker->heap, worker->refs[k])))
			return;
	}
	worker->refs[k] = 0;
	if (!went_well(worker, pyheap_new(worker->heap, PYHEAP_BYTES, size, &worker->refs[k]))) {
		worker->refs[k] = 0;
		return;
	}
	data = pyheap_data(worker->heap, worker->refs[k]);
	for (size_t i = 0; i < size; i++)
		data[i] = pattern(worker->refs[k], i);
}

/* Each worker pops what others push, and finds its contents intact. */
static void hand_over(struct worker *worker, int k)
{
	pyheap_ref ref;
	int r;

	if (worker->refs[k]) {
		r = pyheap_queue_push(worker->heap, worker->queue, worker->refs[k], 0);
		if (r != -EAGAIN && went_well(worker, r))
			worker->refs[k] = 0;
	}
	if (worker->refs[k])
		return;
	r = pyheap_queue_pop(worker->heap, worker->queue, &ref, 0);
	if (r == -EAGAIN || !went_well(worker, r))
		return;
	ck_assert(is_intact(worker, ref));
	worker->refs[k] = ref;
}

static void rename_one(struct worker *worker, int k)
{
	pyheap_ref ref;
	char name[32];
	int r;

	snprintf(name, sizeof(name), "worker %d's %d", worker->index, k % 20);
	r = pyheap_name_get(worker->heap, name, &ref);
	if (r != -ENOENT && went_well(worker, r)) {
		ck_assert(is_intact(worker, ref));
		went_well(worker, pyheap_decref(worker->heap, ref)); /* where not, its end drops it */
	}
	if (worker->refs[k])
		went_well(worker, pyheap_name_set(worker->heap, name, worker->refs[k]));
}

static void work(void *userdata)
{
	struct worker worker = {.index = *(int *)userdata, .seed = (unsigned int)getpid()};

	worker.heap = fixture_open(&fx);
	ck_ok(pyheap_name_get(worker.heap, "queue", &worker.queue));
	while (!__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
		int k = rand_r(&worker.seed) % N_OBJECTS;

		switch (rand_r(&worker.seed) % 8) {
		case 0:
			hand_over(&worker, k);
			break;
		case 1:
			rename_one(&worker, k);
			break;
		default:
			replace(&worker, k);
		}
		__atomic_store_n(&shared->n_rounds[worker.index], shared->n_rounds[worker.index] + 1, __ATOMIC_RELAXED);
	}
	for (int k = 0; k < N_OBJECTS; k++)
		ck_assert(!worker.refs[k] || is_intact(&worker, worker.refs[k]));
	pyheap_close(worker.heap);
}

/* Each worker makes n rounds more; a share of them with less than 100 kills. */
static void let_work(uint64_t n)
{
	n = 1 + n * n_kills / 100;
	for (int i = 0; i < N_WORKERS; i++) {
		uint64_t from = __atomic_load_n(&shared->n_rounds[i], __ATOMIC_RELAXED);

		fixture_until(__atomic_load_n(&shared->n_rounds[i], __ATOMIC_RELAXED) >= from + n ||
			      waitpid(pids[i], NULL, WNOHANG) != 0);
		ck_ok(kill(pids[i], 0));
	}
}

static void setup(void)
{
	pyheap_ref queue;

	fixture_setup();
	heap = fixture_open(&fx);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
	ck_ok(pyheap_queue_new(heap, 50, &queue));
	ck_ok(pyheap_name_set(heap, "queue", queue));
	for (int i = 0; i < N_WORKERS; i++) {
		pids[i] = fixture_fork(work, &i);
		fixture_until(__atomic_load_n(&shared->n_rounds[i], __ATOMIC_RELAXED));
	}
	let_work(1000);
}

/* All goes in the end, but for what the queue, names and this session have. */
static void teardown(void)
{
	pyheap_stats stats;
	uint64_t cursor = 0, n = 0;
	pyheap_ref ref, queue;
	char name[PYHEAP_NAME_MAX + 1];

	__atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < N_WORKERS; i++)
		ck_assert_int_eq(fixture_wait(pids[i]), 0);
	ck_ok(pyheap_name_get(heap, "queue", &queue));
	while (pyheap_queue_pop(heap, queue, &ref, 0) == 0)
		ck_ok(pyheap_decref(heap, ref));
	while (pyheap_name_next(heap, &cursor, name, &ref) == 1)
		ck_ok(pyheap_name_del(heap, name));
	while (pyheap_decref(heap, queue) == 0)
		;
	fixture_until(pyheap_stats(heap, &stats) == 0 && stats.n_sessions == 1);
	for (int i = 0; i < PYHEAP_CLASSES; i++)
		n += stats.classes[i].n_used;
	ck_assert_uint_eq(n + stats.n_medium_objects + stats.n_large_objects + stats.n_names, 0);
	heap = pyheap_close(heap);
	fixture_teardown();
}

/* The shared memory from outside. */

static struct control *control;
static uint8_t *base;

static void *map_file(const char *kind)
{
	char path[128];
	struct stat st;
	void *p;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.%s", fx.name, kind);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_ok(fstat(fd, &st));
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	close(fd);
	return p;
}

static void map_all(void)
{
	control = map_file("ctl");
	base = map_file("heap");
	ck_assert_uint_eq(control->magic, LAYOUT_MAGIC);
}

static void *in_control(uint64_t off)
{
	return (uint8_t *)control + off;
}

static struct arena_entry *arenas(void)
{
	return in_control(control->arenas_off);
}

/* Do something to each pool of a kind. */
static void each_pool(uint8_t kind, void (*damage)(struct pool_entry *pool, uint32_t index))
{
	struct pool_entry *pools = in_control(control->pools_off);

	for (uint32_t a = 0; a < control->n_arenas_known; a++)
		for (uint32_t i = a * control->pools_per_arena; i < (a + 1) * control->pools_per_arena; i++)
			if (arenas()[a].state == ARENA_POOLS && pools[i].kind == kind)
				damage(&pools[i], i);
}

/* A client is in a critical section. Exact while all are stopped. */
static bool any_is_active(void)
{
	const struct session_entry *sessions = in_control(control->sessions_off);

	for (uint32_t i = 0; i < control->n_sessions; i++)
		if (sessions[i].state == SESSION_ACTIVE &&
			__atomic_load_n(&sessions[i].activity, __ATOMIC_ACQUIRE) == ACTIVITY_ACTIVE)
			return true;
	return false;
}

/* Stop all clients between two calls, with the lock taken. */
static void stop_clients(void)
{
	for (;;) {
		int status;

		ck_ok(pyheap_lock(heap));
		for (int i = 0; i < N_WORKERS; i++) {
			ck_ok(kill(pids[i], SIGSTOP));
			ck_assert_int_eq(waitpid(pids[i], &status, WUNTRACED), pids[i]);
			ck_assert(WIFSTOPPED(status));
		}
		if (!any_is_active())
			return;
		/* one may be in a call that waits for this lock */
		ck_ok(pyheap_unlock(heap));
		for (int i = 0; i < N_WORKERS; i++)
			ck_ok(kill(pids[i], SIGCONT));
		usleep((useconds_t)(rand() % 1000));
	}
}

static void let_clients_go(void)
{
	for (int i = 0; i < N_WORKERS; i++)
		ck_ok(kill(pids[i], SIGCONT));
	ck_ok(pyheap_unlock(heap));
}

/* Whole kinds of what is derived are wiped out. */

static void wild_free_list(struct pool_entry *pool, uint32_t index)
{
	(void)index;
	pool->freeblock1 = (uint16_t)rand();
}
static void wild_numbers(struct pool_entry *pool, uint32_t index)
{
	pool->n_used = (uint16_t)rand();
	pool->n_carved = (uint16_t)(index % 2 ? 0 : rand());
}
static void wild_links(struct pool_entry *pool, uint32_t index)
{
	(void)index;
	pool->next1 = (uint32_t)rand();
	pool->prev1 = (uint32_t)rand();
}
static void wild_owned_links(struct pool_entry *pool, uint32_t index)
{
	(void)index;
	pool->owned_next1 = (uint32_t)rand();
	pool->owned_prev1 = (uint32_t)rand();
}
static void wild_returned(struct pool_entry *pool, uint32_t index)
{
	(void)index;
	pool->remote_next1 = (uint32_t)rand();
	pool->remote_prev1 = (uint32_t)rand();
	pool->is_on_remote_list = (uint16_t)rand();
	pool->is_notified = 0; /* a hint: any value is right */
}
static uint32_t state_of(const struct object_header *header)
{
	return (uint32_t)(header->word >> 7 & 7);
}
static void wild_counts(struct pool_entry *pool, uint32_t index)
{
	struct object_header *headers = (struct object_header *)(void *)(base + (uint64_t)index * POOL_SIZE);

	for (uint32_t i = 0; i < pool->n_carved; i++)
		if (state_of(&headers[i]) == STATE_LIVE)
			headers[i].rights ^= (uint64_t)rand() % 1000;
}
static void wild_free_headers(struct pool_entry *pool, uint32_t index)
{
	struct object_header *headers = (struct object_header *)(void *)(base + (uint64_t)index * POOL_SIZE);

	for (uint32_t i = 0; i < pool->n_carved; i++) {
		if (state_of(&headers[i]) != STATE_FREE)
			continue;
		headers[i].word ^= ((uint64_t)rand() & 0x3ffffff) << 10; /* the link */
		headers[i].rights = (uint64_t)rand();
	}
}
static void wild_run(struct pool_entry *pool, uint32_t index)
{
	(void)index;
	pool->header.rights ^= 5; /* also of a free one */
}

static struct session_entry *sessions(void)
{
	return in_control(control->sessions_off);
}
static void each_session(void (*damage)(struct session_entry *entry))
{
	for (uint32_t i = 0; i < control->n_sessions; i++)
		if (sessions()[i].state == SESSION_ACTIVE)
			damage(&sessions()[i]);
}
static void wild_used_heads(struct session_entry *entry)
{
	for (uint32_t i = 0; i < N_CLASSES; i++)
		entry->usedpools1[i] = i % 3 ? (uint32_t)rand() : 0;
}
static void wild_spare_runs(struct session_entry *entry)
{
	for (uint32_t i = 0; i < SPARE_RUN_MAX; i++)
		entry->spare_runs1[i] = i % 3 ? 1 + (uint32_t)rand() % 1000 : 0;
}
static void wild_heads(struct session_entry *entry)
{
	entry->owned_pools1 = (uint32_t)rand();
	entry->remote_pools1 = (uint32_t)rand();
}
static void wild_n_own_holds(struct session_entry *entry)
{
	entry->n_own_holds += 1 + (uint64_t)rand();
}

static void free_lists(void)
{
	each_pool(POOL_BLOCKS, wild_free_list);
}
static void pool_numbers(void)
{
	each_pool(POOL_BLOCKS, wild_numbers);
}
static void used_lists(void)
{
	each_pool(POOL_BLOCKS, wild_links);
}
static void own_used_heads(void)
{
	each_session(wild_used_heads);
}
static void owned_links(void)
{
	each_pool(POOL_BLOCKS, wild_owned_links);
	each_pool(POOL_RUN, wild_owned_links);
}
static void owned_heads(void)
{
	each_session(wild_heads);
}
static void returned(void)
{
	each_pool(POOL_BLOCKS, wild_returned);
}
static void spare_runs(void)
{
	each_session(wild_spare_runs);
}
static void own_holds(void)
{
	each_session(wild_n_own_holds);
}
static void free_headers(void)
{
	each_pool(POOL_BLOCKS, wild_free_headers);
}
static void used_heads(void)
{
	for (uint32_t i = 0; i < N_SPACES; i++)
		memset(control->spaces[i].usedpools1, i ? 0xff : 0, sizeof(control->spaces[i].usedpools1));
}
static void bitmaps(void)
{
	uint64_t *words = in_control(control->freepools_off);
	uint32_t n = (control->pools_per_arena + 63) / 64 * control->n_arenas_known;

	for (uint32_t i = 0; i < n; i++)
		words[i] = ~words[i];
}
static void free_pool_numbers(void)
{
	for (uint32_t a = 0; a < control->n_arenas_known; a++)
		arenas()[a].n_free_pools ^= 21;
}
static void arena_links(void)
{
	for (uint32_t a = 0; a < control->n_arenas_known; a++)
		arenas()[a].next1 = arenas()[a].prev1 = (uint32_t)rand();
}
static void arena_heads(void)
{
	control->spaces[SPACE_OBJECTS].usable_arenas1 = 0;
	control->spaces[SPACE_RECORDS].usable_arenas1 = UINT32_MAX;
}
static void lasts(void)
{
	memset(control->spaces[SPACE_OBJECTS].rank2lasta1, 0x11, sizeof(control->spaces[0].rank2lasta1));
}
static void free_arenas(void)
{
	control->spaces[SPACE_OBJECTS].n_free_arenas += 3;
}
static void returnables(void)
{
	control->returnable_arenas1 = UINT32_MAX;
}
static void counters(void)
{
	memset(&control->counters, 0x55, sizeof(control->counters));
}
static void names(void)
{
	memset(in_control(control->name_buckets_off), 0, control->n_name_buckets * sizeof(uint64_t));
}
static void wild_names(void)
{
	memset(in_control(control->name_buckets_off), 0xee, control->n_name_buckets * sizeof(uint64_t));
}
static void counts(void)
{
	each_pool(POOL_BLOCKS, wild_counts);
	each_pool(POOL_RUN, wild_run);
}
static void everything(void)
{
	counts(); /* first, since they read n_carved */
	free_headers();
	free_lists();
	pool_numbers();
	used_lists();
	used_heads();
	own_used_heads();
	owned_links();
	owned_heads();
	returned();
	spare_runs();
	own_holds();
	bitmaps();
	free_pool_numbers();
	arena_links();
	arena_heads();
	lasts();
	returnables();
	counters();
	names();
}

static const struct {
	void (*damage)(void);
	const char *fault;
} damages[] = {
	{free_lists, "freeblock list"},
	{pool_numbers, "blocks are in use"},
	{used_lists, "usedpools"},
	{used_heads, "of space 1 is broken"},
	{own_used_heads, "usedpools"},
	{owned_links, "owned_pools is broken"},
	{owned_heads, "owned_pools"},
	{returned, "remote_pools, which it is"},
	{spare_runs, "keeps a run of"},
	{own_holds, "objects of its own"},
	{free_headers, "somebody has a right to it"},
	{bitmaps, "freepools"},
	{free_pool_numbers, "nfreepools"},
	{arena_links, "usable_arenas"},
	{arena_heads, "usable_arenas"},
	{lasts, "rank2lasta"},
	{free_arenas, "n_free_arenas"},
	{returnables, "returnable_arenas"},
	{counters, "counter"},
	{names, "n_names"},
	{wild_names, "name bucket"},
	{counts, "have a right to it"},
	{everything, "freepools"},
};

struct report {
	const char *wanted;
	bool found;
};

static void note_fault(void *userdata, const char *fault)
{
	struct report *report = userdata;

	report->found |= strstr(fault, report->wanted) != NULL;
}

START_TEST(mended_under_the_lock)
{
	map_all();
	for (uint64_t round = 0; round < 1 + n_kills / 50; round++) {
		struct report checked = {.wanted = damages[_i].fault}, repaired = checked;
		int64_t n;

		stop_clients();
		damages[_i].damage();
		n = pyheap_check(heap, note_fault, &checked);
		ck_assert_int_gt(n, 0);
		ck_assert_msg(checked.found, "nothing says \"%s\"", checked.wanted);
		ck_assert_int_eq(pyheap_repair(heap, note_fault, &repaired), n);
		ck_assert(repaired.found);
		ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
		let_clients_go();
		let_work(300);
	}
}
END_TEST

/* Repair with nothing to mend disturbs no client. */
START_TEST(nothing_to_mend)
{
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(pyheap_repair(heap, NULL, NULL), 0);
		ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
	}
	let_work(1000);
}
END_TEST

/* pyheapctl. */

/* Its exit status; *ret what it says on both outputs. */
static int run_ctl(const char *arguments, char *ret, size_t size)
{
	char command[512];
	FILE *says;
	size_t n;
	int status;

	snprintf(command, sizeof(command), "\"$PYHEAPCTL\" --socket %s %s 2>&1", fx.socket, arguments);
	says = popen(command, "re");
	ck_assert_ptr_nonnull(says);
	n = fread(ret, 1, size - 1, says);
	ret[n] = '\0';
	while (fgetc(says) != EOF)
		;
	status = pclose(says);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void no_used_heads(struct session_entry *entry)
{
	memset(entry->usedpools1, 0, sizeof(entry->usedpools1));
}

/* Damage on which a client can work or gets -EUCLEAN, but which leads no client to another's object. */
static void damage_a_bit(int round)
{
	stop_clients();
	control->counters.n_names += 7;
	if (round % 3 == 0)
		each_session(no_used_heads);
	if (round % 3 == 1)
		each_pool(POOL_BLOCKS, wild_free_list);
	control->returnable_arenas1 = 0;
	let_clients_go();
}

START_TEST(mended_by_pyheapctl)
{
	char said[65536];

	map_all();
	for (int round = 0; round < 3; round++) {
		__atomic_store_n(&shared->tolerant, 1, __ATOMIC_RELEASE);
		damage_a_bit(round);
		let_work(50);
		ck_assert_int_ne(run_ctl("check", said, sizeof(said)), 0);
		ck_assert_msg(strstr(said, "counter n_names") && strstr(said, "check --repair"), "%s", said);
		ck_assert_msg(run_ctl("check --repair", said, sizeof(said)) == 0, "%s", said);
		ck_assert_msg(strstr(said, "found and mended"), "%s", said);
		ck_assert_msg(run_ctl("check", said, sizeof(said)) == 0, "%s", said);
		__atomic_store_n(&shared->tolerant, 0, __ATOMIC_RELEASE);
		let_work(500);
	}
}
END_TEST

/* The repairer is killed at any moment. The clients go on, and another repairer finishes. */
static void repair_for_ever(void *userdata)
{
	pyheap *own = fixture_open(&fx);

	(void)userdata;
	for (;;) {
		ck_ok(pyheap_lock(own));
		control->counters.n_names += 7; /* there is always something to mend */
		ck_assert_int_gt(pyheap_repair(own, NULL, NULL), 0);
		ck_ok(pyheap_unlock(own));
	}
}

START_TEST(repairer_is_killed)
{
	uint64_t n_before;

	map_all();
	n_before = control->lock.n_recoveries;
	for (uint64_t round = 0; round < n_kills; round++) {
		pid_t pid = fixture_fork(repair_for_ever, NULL);

		usleep((useconds_t)(1000 + rand() % 20000));
		fixture_kill(pid);
		ck_assert_int_ge(pyheap_repair(heap, NULL, NULL), 0);
		ck_assert_uint_eq(control->rebuilding, 0);
		ck_assert_int_eq(pyheap_check(heap, NULL, NULL), 0);
	}
	ck_assert_uint_gt(control->lock.n_recoveries, n_before);
	printf("repairer killed %llu times, %llu times at work\n", (unsigned long long)n_kills,
		(unsigned long long)(control->lock.n_recoveries - n_before));
	let_work(1000);
}
END_TEST

/* The daemon. */

static uint64_t n_sessions(void)
{
	pyheap_stats stats;

	ck_ok(pyheap_stats(heap, &stats));
	return stats.n_sessions;
}

static void die_damaged(void *userdata)
{
	struct session_entry *sessions = in_control(control->sessions_off);
	pyheap *own = fixture_open(&fx);
	pyheap_ref ref;

	(void)userdata;
	for (size_t size = 8; size < 100000; size *= 3)
		ck_ok(pyheap_new(own, PYHEAP_BYTES, size, &ref));
	for (uint32_t i = 0; i < control->n_sessions; i++)
		if (sessions[i].state == SESSION_ACTIVE && sessions[i].pid == getpid())
			sessions[i].owned_pools1 = UINT32_MAX;
	raise(SIGKILL);
}

/* A dead session with damage in it cannot be reclaimed. Once the damage is mended the daemon reclaims it. */
START_TEST(lost_one_is_reclaimed)
{
	char said[65536];

	map_all();
	for (int i = 0; i < 2; i++)
		ck_assert_int_ne(fixture_wait(fixture_fork(die_damaged, NULL)), 0);
	fixture_until(fixture_log_count("cannot be reclaimed"));
	let_work(1000);
	ck_assert_uint_eq(n_sessions(), N_WORKERS + 3);
	ck_assert_msg(run_ctl("check --repair", said, sizeof(said)) == 0, "%s", said);
	ck_assert_msg(strstr(said, "owned_pools"), "%s", said);
	fixture_until(n_sessions() == N_WORKERS + 1);
	ck_assert(fixture_log_count("the heap was repaired"));
	ck_assert_msg(run_ctl("check", said, sizeof(said)) == 0, "%s", said);
	let_work(1000);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("repair");
	TCase *t = tcase_create("repair");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, mended_under_the_lock, 0, (int)(sizeof(damages) / sizeof(damages[0])));
	tcase_add_test(t, nothing_to_mend);
	tcase_add_test(t, mended_by_pyheapctl);
	tcase_add_test(t, repairer_is_killed);
	tcase_add_test(t, lost_one_is_reclaimed);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	const char *value = getenv("PYHEAP_REPAIR_KILLS");

	n_kills = value ? strtoull(value, NULL, 10) : 20;
	return fixture_main(suite());
}
