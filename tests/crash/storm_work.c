// SPDX-License-Identifier: MIT
/*
 * A worker's life: it opens a session, makes random calls with its own objects and with the shared roots, and at last
 * drops everything. It may be killed or stopped anywhere; after a kill another worker takes its number.
 *
 * Every call is measured and its answer judged: an error that the moment does not explain is a fault. -ENOMEM may be
 * answered where memory is needed, -ECONNRESET only to the owner of the global lock, which does not wait for the
 * daemon.
 */
#include "storm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_MS (WATCHDOG_S * 1000)

void worker_fault(struct worker *worker, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	storm_fault("worker %u (pid %d) after %llu calls, the last of them %s: %s", worker->number, (int)getpid(),
		(unsigned long long)worker->report->n_calls, worker->report->call ? worker->report->call : "none",
		text);
	while (shared->holds_on)
		pause();
	_exit(1);
}

/* ---- calls ---- */

/* relaxed: figures that the storm writes, and this process may be preempted anywhere */
static uint32_t n_unrest(void)
{
	return __atomic_load_n(&shared->n_unrest, __ATOMIC_RELAXED);
}

static uint32_t n_changes(void)
{
	return __atomic_load_n(&shared->n_changes, __ATOMIC_RELAXED);
}

void call_begin(struct worker *worker, const char *call)
{
	worker->report->call = call;
	worker->report->n_calls++;
	worker->call_n_changes = n_changes();
	worker->call_is_calm = n_unrest() == 0;
	worker->call_began = now_ns();
}

bool call_was_calm(const struct worker *worker)
{
	return worker->call_is_calm && n_changes() == worker->call_n_changes;
}

static void call_measure(struct worker *worker)
{
	struct report *report = worker->report;
	uint64_t ns = now_ns() - worker->call_began;

	if (ns > report->longest_ns) {
		report->longest_ns = ns;
		report->longest_call = report->call;
	}
	if (ns > report->longest_calm_ns && call_was_calm(worker))
		report->longest_calm_ns = ns;
}

int64_t call_end(struct worker *worker, int may, int64_t r)
{
	struct report *report = worker->report;

	if (!(may & MAY_WAIT))
		call_measure(worker);
	if (r >= 0)
		return r;
	report->n_lacked += r == -ENOMEM;
	report->n_reset += r == -ECONNRESET;
	if ((may & MAY_LACK && (r == -ENOMEM || (r == -ECONNRESET && worker->has_lock))) ||
		(may & MAY_WAIT && (r == -EAGAIN || r == -ETIMEDOUT)) || (may & MAY_MISS && r == -ENOENT) ||
		(may & MAY_GONE && r == -ESTALE))
		return r;
	worker_fault(worker, "it answered %lld, %s", (long long)r, pyheap_strerror((int)r));
}

/* ---- sessions ---- */

/* There may be no daemon just now, or no free session until it has reclaimed dead ones. */
static bool may_come(int r)
{
	return r == -ENOENT || r == -ECONNREFUSED || r == -ECONNRESET || r == -ETIMEDOUT || r == -EUSERS;
}

static void open_session(struct worker *worker)
{
	uint64_t end = now_ns() + WATCHDOG_S * UINT64_C(1000000000);
	int r;

	while ((r = pyheap_open(&worker->heap, worker->socket)) < 0) {
		if (!may_come(r) || now_ns() > end)
			worker_fault(worker, "pyheap_open: %d, %s", r, pyheap_strerror(r));
		if (shared->is_ending)
			_exit(0);
		usleep(2000);
	}
	CALL(worker, MAY_NOTHING, pyheap_set_timeout(worker->heap, TIMEOUT_MS));
}

static void get_roots(struct worker *worker, const char *what, size_t n, pyheap_ref *refs)
{
	char name[32];

	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s %zu", what, i);
		while (CALL(worker, MAY_LACK, pyheap_name_get(worker->heap, name, &refs[i])) < 0)
			usleep(1000);
	}
}

static void register_node(struct worker *worker)
{
	static const size_t slots[] = {NODE_SLOT_A, NODE_SLOT_B};
	const pyheap_type_spec spec = {.name = "storm.node", .size = NODE_SIZE, .n_slots = 2, .slots = slots};

	CALL(worker, MAY_NOTHING, pyheap_type_register(worker->heap, &spec, &worker->node));
}

void worker_open(struct worker *worker)
{
	open_session(worker);
	register_node(worker);
	get_roots(worker, "list", N_LISTS, worker->lists);
	get_roots(worker, "queue", N_QUEUES, worker->queues);
	get_roots(worker, "node", N_NODES, worker->nodes);
}

void worker_close(struct worker *worker)
{
	if (worker->has_lock)
		worker_fault(worker, "closes with the lock");
	memset(worker->kept, 0, sizeof(worker->kept));
	worker->report->call = "pyheap_close()";
	worker->heap = pyheap_close(worker->heap);
}

/* ---- crashes ---- */

static struct worker *crashing; /* the worker of this process */

/* A worker must never crash, also when /dev/shm is full. The report takes no lock that the worker may have. */
static void on_crash(int signal_number, siginfo_t *info, void *context)
{
	(void)context;
	signal(signal_number, SIG_DFL);
	worker_fault(crashing, "signal %d (code %d) at address %p", signal_number, info->si_code, info->si_addr);
}

static void watch_for_crashes(struct worker *worker)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGPIPE};
	struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};

	crashing = worker;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
}

/* ---- lives ---- */

void worker_run(uint32_t number, uint64_t seed, const char *socket)
{
	struct worker worker = {.number = number, .random = seed, .socket = socket, .report = &shared->reports[number]};

	watch_for_crashes(&worker);
	worker_open(&worker);
	while (!__atomic_load_n(&shared->is_ending, __ATOMIC_RELAXED))
		worker_step(&worker);
	drop_all(&worker);
	worker_close(&worker);
}

/* Take all memory in pieces of every size, verify all of it, and drop it. */
void hog_run(uint64_t seed, const char *socket)
{
	enum { N = 30000 };
	struct worker hog = {.number = N_WORKERS, .random = seed, .socket = socket};
	pyheap_ref *refs = calloc(N, sizeof(*refs));
	size_t n = 0;

	hog.report = &shared->reports[N_WORKERS];
	watch_for_crashes(&hog);
	if (!refs)
		worker_fault(&hog, "no memory of its own");
	open_session(&hog);
	for (size_t size = (size_t)2 << 20; size >= 32; size /= 4) {
		while (n < N && (refs[n] = make_bytes(&hog, size, random_next(&hog.random))) != 0)
			n++;
	}
	for (size_t i = 0; i < n && !shared->is_ending; i++)
		verify(&hog, refs[i]);
	usleep((useconds_t)random_below(&hog.random, 500000));
	for (size_t i = 0; i < n; i++)
		verify(&hog, refs[i]);
	for (size_t i = 0; i < n; i++)
		CALL(&hog, MAY_NOTHING, pyheap_decref(hog.heap, refs[i]));
	worker_close(&hog);
	free(refs);
}

static void name_root(struct worker *worker, const char *what, size_t i, pyheap_ref ref)
{
	char name[32];

	snprintf(name, sizeof(name), "%s %zu", what, i);
	CALL(worker, MAY_NOTHING, pyheap_name_set(worker->heap, name, ref));
	CALL(worker, MAY_NOTHING, pyheap_decref(worker->heap, ref));
}

void roots_make(const char *socket)
{
	struct worker worker = {.number = N_WORKERS, .socket = socket, .report = &shared->reports[N_WORKERS]};
	pyheap_ref ref;

	open_session(&worker);
	register_node(&worker);
	for (size_t i = 0; i < N_LISTS; i++) {
		CALL(&worker, MAY_NOTHING, pyheap_list_new(worker.heap, LIST_SLOTS, &ref));
		name_root(&worker, "list", i, ref);
	}
	for (size_t i = 0; i < N_QUEUES; i++) {
		CALL(&worker, MAY_NOTHING, pyheap_queue_new(worker.heap, QUEUE_SIZE, &ref));
		name_root(&worker, "queue", i, ref);
	}
	for (size_t i = 0; i < N_NODES; i++) {
		CALL(&worker, MAY_NOTHING, pyheap_new(worker.heap, worker.node, 0, &ref));
		name_root(&worker, "node", i, ref);
	}
	worker_close(&worker);
}
