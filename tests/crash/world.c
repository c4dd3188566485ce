// SPDX-License-Identifier: MIT
/*
 * The world of a test: a daemon, a heap and a survivor
 *
 * The harness has no session. It starts, traces and kills processes. Everything that needs a session is done by the
 * survivor, a process whose session stays open all the time: a survivor that hangs or crashes is reported as a fault.
 * What the harness must learn without disturbing anybody (does a session still exist, who has the lock) it reads in the
 * control segment.
 *
 * Whatever is started ends with the harness, however the harness ends: PR_SET_PDEATHSIG ends the processes, the daemon
 * removes its shared memory at SIGTERM, and world_stop() removes it where the daemon could not.
 */
#include "world.h"

#include "tracee.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t watchdog_ns(void)
{
	return clock_ns() + WATCHDOG_S * UINT64_C(1000000000);
}

void sleep_ms(unsigned int ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

/* ---- the daemon ---- */

_Noreturn void world_exec_daemon(void *userdata)
{
	const struct world *world = userdata;
	const char *program = getenv("PYHEAPD");
	const char *argv[24] = {"pyheapd", "--socket", world->stage->socket, "--name", world->name};
	int n = 5, log;

	for (int i = 0; world->daemon_args[i] && n < 23; i++)
		argv[n++] = world->daemon_args[i];
	tracee_unpin();
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	personality(ADDR_NO_RANDOMIZE); /* a trace of one daemon is good for the next */
	log = open(world->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (!program || log < 0 || dup2(log, STDERR_FILENO) < 0 || getppid() != world->harness)
		_exit(125);
	execv(program, (char **)argv);
	_exit(126);
}

int world_fork_daemon(struct world *world)
{
	world->daemon = fork();
	if (world->daemon < 0)
		return -errno;
	if (world->daemon == 0)
		world_exec_daemon(world);
	return 0;
}

bool world_daemon_lives(struct world *world)
{
	int status;

	if (world->daemon <= 0)
		return false;
	if (waitpid(world->daemon, &status, WNOHANG) != world->daemon)
		return true;
	fprintf(stderr, "pyheapd ended with status 0x%x\n", status);
	world->daemon = 0;
	return false;
}

/* A child tries it, as the harness has no session. */
static bool daemon_admits(const struct world *world)
{
	pid_t pid = fork();
	int status = -1;
	pyheap *heap;

	if (pid == 0) {
		if (pyheap_open(&heap, world->stage->socket) < 0)
			_exit(1);
		pyheap_close(heap);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0;
}

int world_await_daemon(struct world *world)
{
	uint64_t give_up = clock_ns() + world->stage->patience_ms * UINT64_C(1000000);

	while (!daemon_admits(world)) {
		if (!world_daemon_lives(world))
			return -ESRCH;
		if (clock_ns() > give_up)
			return -ETIMEDOUT;
		sleep_ms(2);
	}
	return 0;
}

int world_start_daemon(struct world *world)
{
	int r = world_fork_daemon(world);

	return r < 0 ? r : world_await_daemon(world);
}

static void daemon_end(struct world *world)
{
	uint64_t give_up = watchdog_ns();
	int status;

	if (world->daemon <= 0)
		return;
	kill(world->daemon, SIGTERM);
	while (waitpid(world->daemon, &status, WNOHANG) == 0) {
		if (clock_ns() > give_up)
			kill(world->daemon, SIGKILL);
		sleep_ms(1);
	}
	world->daemon = 0;
}

/* ---- the survivor ---- */

int world_start_survivor(struct world *world)
{
	int lines[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, lines) < 0)
		return -errno;
	world->survivor = fork();
	if (world->survivor < 0)
		return -errno;
	if (world->survivor == 0) {
		tracee_unpin();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(lines[0]);
		survivor_run(world->stage, lines[1]);
		_exit(0);
	}
	close(lines[1]);
	world->line = lines[0];
	return 0;
}

void world_kill_survivor(struct world *world)
{
	if (world->line >= 0)
		close(world->line);
	world->line = -1;
	if (world->survivor <= 0)
		return;
	kill(world->survivor, SIGKILL);
	while (waitpid(world->survivor, NULL, 0) < 0 && errno == EINTR)
		;
	world->survivor = 0;
}

int world_ask(struct world *world, enum command command)
{
	/* The survivor itself waits as long as the patience lasts. */
	uint64_t give_up = clock_ns() + 2 * world->stage->patience_ms * UINT64_C(1000000);
	struct pollfd pollfd = {.fd = world->line, .events = POLLIN};
	char byte = (char)command;

	if (send(world->line, &byte, 1, MSG_NOSIGNAL) != 1)
		return -EPIPE;
	while (poll(&pollfd, 1, 1000) <= 0)
		if (clock_ns() > give_up)
			return -ETIMEDOUT;
	return recv(world->line, &byte, 1, 0) == 1 ? 0 : -EPIPE;
}

/* ---- all of it ---- */

static int map_segment(const struct world *world, const char *which, size_t *ret_size, void *ret)
{
	char path[80];
	struct stat st;
	void *p;
	int fd;

	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.%s", world->name, which);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return -errno;
	*ret_size = (size_t)st.st_size;
	*(void **)ret = p;
	return 0;
}

int world_start(struct world *world, const char *const *args)
{
	static unsigned int n_worlds;
	struct stage *stage = world->stage;
	int r;

	if (!stage) {
		stage = mmap(NULL, sizeof(*stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (stage == MAP_FAILED)
			return -errno;
	}
	memset(stage, 0, sizeof(*stage));
	*world = (struct world){.stage = stage, .line = -1, .harness = getpid(), .daemon_args = args};
	stage->patience_ms = WATCHDOG_S * 1000;
	stage->n_sessions = 1;
	strcpy(world->folder, "/tmp/pyheap-crash-XXXXXX");
	if (!mkdtemp(world->folder)) {
		world->folder[0] = '\0';
		return -errno;
	}
	snprintf(stage->socket, sizeof(stage->socket), "%s/socket", world->folder);
	snprintf(world->log, sizeof(world->log), "%s/log", world->folder);
	snprintf(world->name, sizeof(world->name), "crash-%d-%u", (int)getpid(), n_worlds++);
	r = world_start_daemon(world);
	if (r == 0)
		r = map_segment(world, "ctl", &world->control_size, &world->control);
	if (r == 0)
		r = map_segment(world, "heap", &world->size, &world->base);
	if (r == 0)
		r = world_start_survivor(world);
	if (r < 0)
		fprintf(stderr, "cannot start a pyheapd (PYHEAPD=%s): %s\n", getenv("PYHEAPD"), strerror(-r));
	return r;
}

static void remove_folder(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		unlinkat(dirfd(folder), entry->d_name, 0);
	if (folder)
		closedir(folder);
	rmdir(path);
}

void world_stop(struct world *world)
{
	char segment[64];

	world_kill_survivor(world);
	daemon_end(world);
	if (world->control)
		munmap(world->control, world->control_size);
	if (world->base)
		munmap(world->base, world->size);
	world->control = NULL;
	world->base = NULL;
	if (!world->folder[0])
		return;
	snprintf(segment, sizeof(segment), "/pyheap.%s.ctl", world->name);
	shm_unlink(segment);
	snprintf(segment, sizeof(segment), "/pyheap.%s.heap", world->name);
	shm_unlink(segment);
	snprintf(segment, sizeof(segment), "/pyheap.%s.daemon", world->name);
	shm_unlink(segment);
	remove_folder(world->folder);
	world->folder[0] = '\0';
}

/* ---- looking from outside ---- */

static const void *at(const struct world *world, uint64_t off)
{
	return (const uint8_t *)world->control + off;
}

uint32_t world_count_sessions(const struct world *world)
{
	const struct session_entry *sessions = at(world, world->control->sessions_off);
	uint32_t n = 0;

	for (uint32_t i = 0; i < world->control->n_sessions; i++)
		n += __atomic_load_n(&sessions[i].state, __ATOMIC_ACQUIRE) != SESSION_FREE;
	return n;
}

uint32_t world_count_moving_arenas(const struct world *world)
{
	const struct arena_entry *arenas = at(world, world->control->arenas_off);
	uint32_t n = 0;

	for (uint32_t i = 0; i < world->control->n_arenas_known; i++) {
		uint32_t state = __atomic_load_n(&arenas[i].state, __ATOMIC_ACQUIRE);

		n += state == ARENA_MAPPING || state == ARENA_GRANTED || state == ARENA_RETURNING;
	}
	return n;
}

/* Remotely freed blocks of an owned pool that wait to be collected, counted by their headers. */
static uint32_t count_remote(const struct world *world, const struct pool_entry *pool)
{
	const struct pool_entry *pools = at(world, world->control->pools_off);
	const struct object_header *headers = (const void *)(world->base + ((uint64_t)(pool - pools) << POOL_SHIFT));
	uint32_t n = 0;

	if (!pool->owner1 || !pool->is_on_remote_list || pool->size_class >= N_CLASSES)
		return 0;
	for (uint32_t i = 0; i < class_shapes[pool->size_class].n_blocks; i++)
		n += header_state(headers[i].word) == STATE_REMOTE_FREE;
	return n;
}

/* Does an object begin at this pool? *ret_n: how many pools it takes. */
static bool is_pool_used(const struct world *world, const struct pool_entry *pool, uint32_t *ret_n)
{
	*ret_n = 1;
	if (pool->kind == POOL_BLOCKS)
		return pool->n_used > count_remote(world, pool);
	if (pool->kind != POOL_RUN)
		return false;
	*ret_n = pool->run_n_pools ? pool->run_n_pools : 1;
	return header_state(pool->header.word) != STATE_FREE;
}

uint64_t world_count_used_arenas(const struct world *world)
{
	const struct control *c = world->control;
	const struct arena_entry *arenas = at(world, c->arenas_off);
	const struct pool_entry *pools = at(world, c->pools_off);
	uint64_t n_used = 0;

	for (uint32_t a = 0; a < c->n_arenas_known; a++) {
		bool is_used = false;
		uint32_t n;

		for (uint32_t i = 0; arenas[a].state == ARENA_POOLS && i < c->pools_per_arena && !is_used; i += n)
			is_used = is_pool_used(world, &pools[a * c->pools_per_arena + i], &n);
		n_used += arenas[a].state == ARENA_RUN ? arenas[a].n_arenas : is_used;
	}
	return n_used;
}

static uint32_t count_kept_pools(const struct world *world, uint32_t index1)
{
	const struct pool_entry *pools = at(world, world->control->pools_off);
	uint32_t n_pools = world->control->n_arenas * world->control->pools_per_arena, n_kept = 0;

	/* The list may change meanwhile: the bounds end the walk, and a caller that waits for 0 reads it again. */
	for (uint32_t n = 0; index1 && index1 <= n_pools && n < n_pools; n++) {
		const struct pool_entry *pool = &pools[index1 - 1];

		n_kept += pool->n_used == count_remote(world, pool);
		index1 = pool->next1;
	}
	return n_kept;
}

uint32_t world_count_kept(const struct world *world)
{
	const struct session_entry *sessions = at(world, world->control->sessions_off);
	uint32_t n_kept = 0;

	for (uint32_t i = 0; i < world->control->n_sessions; i++) {
		if (__atomic_load_n(&sessions[i].state, __ATOMIC_ACQUIRE) == SESSION_FREE)
			continue;
		for (uint32_t c = 0; c < N_CLASSES; c++)
			n_kept += count_kept_pools(world, sessions[i].usedpools1[c]);
		for (uint32_t n = 0; n < SPARE_RUN_MAX; n++)
			n_kept += sessions[i].spare_runs1[n] != 0;
	}
	return n_kept;
}

struct session_entry *world_session_at(const struct world *world, uint32_t index)
{
	struct session_entry *sessions = (void *)((uint8_t *)world->control + world->control->sessions_off);

	return index < world->control->n_sessions ? &sessions[index] : NULL;
}

struct session_entry *world_session_of(const struct world *world, pid_t pid)
{
	for (uint32_t i = 0; i < world->control->n_sessions; i++) {
		struct session_entry *entry = world_session_at(world, i);

		if (entry->state == SESSION_ACTIVE && entry->pid == pid)
			return entry;
	}
	return NULL;
}

struct object_header *world_header_of(const struct world *world, pyheap_ref ref)
{
	struct pool_entry *pools = (void *)((uint8_t *)world->control + world->control->pools_off);
	uint64_t off = ref_position(ref) << 3;
	struct pool_entry *pool;

	if (!ref || off >= world->size)
		return NULL;
	pool = &pools[off >> POOL_SHIFT];
	if (pool->kind == POOL_BODY)
		pool -= pool->span_index;
	if (pool->kind != POOL_BLOCKS || !class_shapes[pool->size_class].size)
		return &pool->header;
	off -= (uint64_t)(pool - pools) << POOL_SHIFT;
	return (struct object_header *)(void *)(world->base + ((uint64_t)(pool - pools) << POOL_SHIFT)) +
	       (off - class_shapes[pool->size_class].first) / class_shapes[pool->size_class].size;
}

int64_t world_excess_bytes(const struct world *world)
{
	char path[80];
	struct stat st;

	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.heap", world->name);
	if (stat(path, &st) < 0)
		return INT64_MAX;
	return st.st_blocks * 512 - (int64_t)(world->control->counters.n_arenas_current * world->control->arena_size);
}

/* The word of the lock names its owner: a thread, or, of another pid namespace, a session (foreign_lock.c). */
bool world_has_lock(const struct world *world, pid_t pid)
{
	const struct session_entry *sessions = at(world, world->control->sessions_off);
	uint32_t word = (uint32_t)__atomic_load_n(&world->control->lock.word, __ATOMIC_ACQUIRE);
	uint32_t owner = word & FUTEX_TID_MASK, index1 = owner & ((1U << 29) - 1);

	if (!(owner >> 29))
		return owner == (uint32_t)pid;
	return index1 && index1 <= world->control->n_sessions && sessions[index1 - 1].pid == pid;
}
