// SPDX-License-Identifier: MIT
/*
 * The daemon's truth
 *
 * Clients can write every word of the control segment, so the daemon decides on none of them that it has written
 * itself. What it has to know again (which arenas have memory, in which runs, granted to whom; sessions, their tokens
 * and processes; sizes; whether the heap has ended) is here: a file of mode 0600 beside the two segments, of which no
 * client gets a descriptor. It outlives the daemon, as the segments do, and the next daemon goes by it.
 *
 * The magic is written last, and each entry is committed by one store. The daemon may be killed between any two stores:
 *
 * Died after ...                          the next daemon ...
 *   anything but the magic                finds no truth: no client was served yet
 *   a head MAPPING, some bodies           makes the others BODY by the head's length, then unmaps the run
 *   some bodies THERE, the head MAPPING   as before: no session knows of the run yet
 *   a head UNMAPPING, some bodies         makes the others BODY by the head's length, and goes on unmapping
 *   a last arena HOLE, before n_arenas    makes it BODY again and unmaps it once more; nothing else has it yet
 *   a session's fields, not its state     finds it FREE: they are written anew by the next admission
 *   pid_namespace 0, some of pid          does not know the process: the session stays until it is resumed
 *
 * The truth names the segments by device and inode, as a client cannot change them, whereas it can change all that the
 * segments say of themselves.
 */

#include "heap/shared/truth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SESSIONS_OFF 4096U

static uint64_t arenas_off(uint32_t n_sessions)
{
	return SESSIONS_OFF + ((n_sessions * sizeof(struct truth_session) + 4095) & ~UINT64_C(4095));
}

int file_allocate(int fd, uint64_t offset, uint64_t size)
{
	int r;

	do
		r = posix_fallocate(fd, (off_t)offset, (off_t)size);
	while (r == EINTR);
	return r == ENOSPC ? -ENOMEM : -r;
}

int truth_files_of(struct truth_files *ret, int control_fd, int heap_fd)
{
	struct stat control, heap;

	if (fstat(control_fd, &control) < 0 || fstat(heap_fd, &heap) < 0)
		return -errno;
	*ret = (struct truth_files){control.st_dev, control.st_ino, heap.st_dev, heap.st_ino};
	return 0;
}

static bool are_same(const struct truth_files *a, const struct truth_files *b)
{
	return a->control_dev == b->control_dev && a->control_ino == b->control_ino && a->heap_dev == b->heap_dev &&
	       a->heap_ino == b->heap_ino;
}

static int truth_map(struct truth **ret, int fd, const struct heap_geometry *geometry)
{
	uint32_t n_arenas = (uint32_t)(geometry->heap_size / geometry->arena_size);
	uint64_t off = arenas_off(geometry->n_sessions);
	struct truth *truth = calloc(1, sizeof(*truth));
	uint8_t *p;

	if (!truth)
		return -ENOMEM;
	truth->size = off + n_arenas * sizeof(struct truth_arena);
	p = mmap(NULL, truth->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0),
		fd, 0);
	if (p == MAP_FAILED) {
		free(truth);
		return -errno;
	}
	truth->head = (void *)p;
	truth->sessions = (void *)(p + SESSIONS_OFF);
	truth->arenas = (void *)(p + off);
	truth->n_arenas = n_arenas;
	truth->fd = fd;
	*ret = truth;
	return 0;
}

int truth_make(struct truth **ret, int fd, const struct truth_files *files, const struct heap_geometry *geometry)
{
	uint64_t off = arenas_off(geometry->n_sessions);
	struct truth_head *head;
	int r = 0;

	if (fd >= 0 && (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)(off + geometry->heap_size / geometry->arena_size *
										    sizeof(struct truth_arena))) < 0))
		return -errno;
	if (fd >= 0)
		r = file_allocate(fd, 0, off);
	if (r == 0)
		r = truth_map(ret, fd, geometry);
	if (r < 0)
		return r;
	head = (*ret)->head;
	head->version = TRUTH_VERSION;
	head->layout_hash = layout_hash();
	head->files = *files;
	head->heap_size = geometry->heap_size;
	head->arena_size = geometry->arena_size;
	head->n_sessions = geometry->n_sessions;
	return 0;
}

void truth_commit(struct truth *truth)
{
	/* commit: release, after all of it */
	__atomic_store_n(&truth->head->magic, TRUTH_MAGIC, __ATOMIC_RELEASE);
}

/* Read by pread(), where a file cut short is a short read and no SIGBUS. */
static int head_check(int fd, const struct truth_files *files, struct heap_geometry *ret)
{
	struct truth_head head;
	struct stat st;
	uint64_t n_arenas;

	if (pread(fd, &head, sizeof(head), 0) < (ssize_t)sizeof(head) || head.magic != TRUTH_MAGIC ||
		!are_same(&head.files, files))
		return -ENODATA;
	if (head.version != TRUTH_VERSION || head.layout_hash != layout_hash())
		return -EPROTONOSUPPORT;
	*ret = (struct heap_geometry){head.heap_size, head.arena_size, head.n_sessions};
	if (geometry_check(ret) < 0 || fstat(fd, &st) < 0)
		return -ENODATA;
	n_arenas = head.heap_size / head.arena_size;
	if ((uint64_t)st.st_size != arenas_off(head.n_sessions) + n_arenas * sizeof(struct truth_arena) ||
		head.n_arenas_known > n_arenas || head.n_arenas_mapped > n_arenas)
		return -ENODATA;
	return 0;
}

int truth_open(struct truth **ret, int fd, const struct truth_files *files)
{
	struct heap_geometry geometry;
	int r = head_check(fd, files, &geometry);

	if (r == 0)
		r = truth_map(ret, fd, &geometry);
	if (r == 0)
		truth_settle(*ret);
	return r;
}

int truth_extend(struct truth *truth, uint32_t n)
{
	struct truth_head *head = truth->head;
	uint32_t known = head->n_arenas_known;
	int r = 0;

	if (n <= known)
		return 0;
	if (truth->fd >= 0)
		r = file_allocate(truth->fd, arenas_off(head->n_sessions) + known * sizeof(struct truth_arena),
			(n - known) * sizeof(struct truth_arena));
	if (r == 0)
		__atomic_store_n(&head->n_arenas_known, n, __ATOMIC_RELEASE); /* release: after the memory */
	return r;
}

void truth_settle(struct truth *truth)
{
	uint32_t known = truth->head->n_arenas_known;

	for (uint32_t i = 0; i < known;) {
		struct truth_arena *head = &truth->arenas[i];
		uint32_t n = 1;

		if (head->state == TRUTH_HOLE || head->state == TRUTH_BODY) {
			head->state = TRUTH_HOLE;
		} else {
			if (!head->n_arenas || head->n_arenas > known - i || head->state == TRUTH_THERE)
				head->n_arenas = 1;
			n = head->n_arenas;
		}
		for (uint32_t k = 1; k < n; k++)
			truth->arenas[i + k].state = TRUTH_BODY;
		i += n;
	}
}

void truth_arena_set_state(struct truth_arena *arena, enum truth_arena_state state)
{
	__atomic_store_n(&arena->state, (uint32_t)state, __ATOMIC_RELEASE);
}

void truth_arena_set_run(struct truth_arena *arena, enum truth_arena_state state, uint32_t n_arenas)
{
	/* one store of both: no death comes between them */
	__atomic_store_n((uint64_t *)(void *)arena, (uint64_t)n_arenas << 32 | state, __ATOMIC_RELEASE);
}

void truth_session_set_state(struct truth_session *session, uint32_t state)
{
	__atomic_store_n(&session->state, state, __ATOMIC_RELEASE);
}

struct truth *truth_free(struct truth *truth)
{
	if (!truth)
		return NULL;
	munmap(truth->head, truth->size);
	if (truth->fd >= 0)
		close(truth->fd);
	free(truth);
	return NULL;
}
