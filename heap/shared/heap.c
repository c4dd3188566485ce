// SPDX-License-Identifier: MIT
/*
 * The two segments of a heap: created, validated, mapped
 *
 * The control segment is sparse, too. Its fixed part (header, lock, sessions, types, name buckets) gets memory when the
 * heap is created; entries of arenas and pools get theirs when their arenas are first mapped. Nobody reads an entry
 * from n_arenas_known on: reading a page that is not there allocates one, and kills the reader by SIGBUS when /dev/shm
 * is full.
 *
 * Creating a heap ends with the store of the magic. A daemon that dies before leaves a file whose magic is 0.
 *
 * A process that attaches reads the header from the file first, checks every figure in it against what this code
 * computes from the geometry, and keeps a copy: later damage in the segment cannot lead it outside of its mappings.
 */

#include "heap/shared/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

uint64_t pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino;
}

static uint32_t log2_of(uint32_t n)
{
	return 31U - (uint32_t)__builtin_clz(n);
}

static struct heap *heap_from(
	const struct heap_geometry *geometry, const struct sections *s, int control_fd, int heap_fd)
{
	struct heap *heap = calloc(1, sizeof(*heap));

	if (!heap)
		return NULL;
	heap->control = MAP_FAILED;
	heap->base = MAP_FAILED;
	heap->class_hints = MAP_FAILED;
	heap->control_size = s->size;
	heap->heap_size = geometry->heap_size;
	heap->arena_size = geometry->arena_size;
	heap->arena_shift = log2_of(geometry->arena_size);
	heap->n_arenas = s->n_arenas;
	heap->pools_per_arena = s->pools_per_arena;
	heap->pool_words = s->pool_words;
	heap->n_sessions = geometry->n_sessions;
	heap->n_name_buckets = s->n_name_buckets;
	heap->name_shift = 63 - log2_of(s->n_name_buckets); /* hashes have 63 bits */
	heap->control_fd = control_fd;
	heap->heap_fd = heap_fd;
	return heap;
}

/* Unmap without closing the descriptors, which a constructor that fails leaves to its caller. */
static void heap_discard(struct heap *heap)
{
	if (heap->base != MAP_FAILED)
		munmap(heap->base, heap->heap_size);
	if (heap->class_hints != MAP_FAILED)
		munmap(heap->class_hints, heap->heap_size >> POOL_SHIFT);
	if (heap->control != MAP_FAILED)
		munmap(heap->control, heap->control_size);
	free(heap->trimming);
	free(heap);
}

struct heap *heap_free(struct heap *heap)
{
	if (!heap)
		return NULL;
	if (heap->control_fd >= 0)
		close(heap->control_fd);
	if (heap->heap_fd >= 0)
		close(heap->heap_fd);
	heap_discard(heap);
	return NULL;
}

static bool register_for_barriers(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

/*
 * Map readable and writable memory that is locked nowhere. In a process that called mlockall(MCL_FUTURE), mapping a
 * sparse file would make every page of it. No page is made of what cannot be accessed, and munlock() sees to the rest.
 */
static void *map_unlocked(uint64_t size, int flags, int fd)
{
	void *p = mmap(NULL, size, PROT_NONE, flags | MAP_NORESERVE, fd, 0);
	int error;

	if (p == MAP_FAILED)
		return MAP_FAILED;
	munlock(p, size);
	if (mprotect(p, size, PROT_READ | PROT_WRITE) == 0)
		return p;
	error = errno;
	munmap(p, size);
	errno = error;
	return MAP_FAILED;
}

static int map_control(struct heap *heap, const struct sections *s)
{
	uint8_t *p = map_unlocked(heap->control_size, MAP_SHARED, heap->control_fd);

	if (p == MAP_FAILED)
		return -errno;
	heap->is_fenced = !register_for_barriers();
	heap->control = (struct control *)(void *)p;
	heap->sessions = (struct session_entry *)(void *)(p + s->sessions_off);
	heap->types = (struct type_entry *)(void *)(p + s->types_off);
	heap->type_slots = (uint32_t *)(void *)(p + s->type_slots_off);
	heap->name_buckets = (uint64_t *)(void *)(p + s->name_buckets_off);
	heap->arenas = (struct arena_entry *)(void *)(p + s->arenas_off);
	heap->freepools = (uint64_t *)(void *)(p + s->freepools_off);
	heap->pools = (struct pool_entry *)(void *)(p + s->pools_off);
	return 0;
}

/* The daemon maps arenas one by one into an empty window; a client maps the whole file at once. */
static int map_window(struct heap *heap, bool whole)
{
	heap->base = whole ? map_unlocked(heap->heap_size, MAP_SHARED, heap->heap_fd)
			   : mmap(NULL, heap->heap_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (heap->base == MAP_FAILED)
		return -errno;
	heap->class_hints = map_unlocked(heap->heap_size >> POOL_SHIFT, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	return heap->class_hints == MAP_FAILED ? -errno : 0;
}

static int mutex_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;
	int r;

	r = pthread_mutexattr_init(&attr);
	if (r)
		return -r;
	r = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (!r)
		r = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (!r)
		r = pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return -r;
}

int heap_allocate(int fd, uint64_t offset, uint64_t size)
{
	int r;

	do
		r = posix_fallocate(fd, (off_t)offset, (off_t)size);
	while (r == EINTR);
	return r == ENOSPC ? -ENOMEM : -r;
}

static int resize(int fd, uint64_t size)
{
	/* First to nothing: content that an unfinished heap has left must not become part of this one. */
	if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	return 0;
}

static int fill_random(void *p, size_t size)
{
	return getrandom(p, size, 0) == (ssize_t)size ? 0 : -EIO;
}

static int control_fill(
	struct heap *heap, const char *name, const struct heap_geometry *geometry, const struct sections *s)
{
	struct control *c = heap->control;
	int r;

	c->version = LAYOUT_VERSION;
	c->layout_hash = layout_hash();
	c->control_size = s->size;
	c->heap_size = heap->heap_size;
	c->arena_size = heap->arena_size;
	c->n_arenas = s->n_arenas;
	c->pools_per_arena = s->pools_per_arena;
	c->n_sessions = heap->n_sessions;
	c->n_name_buckets = s->n_name_buckets;
	strncpy(c->heap_name, name, sizeof(c->heap_name) - 1);
	c->sessions_off = s->sessions_off;
	c->types_off = s->types_off;
	c->type_slots_off = s->type_slots_off;
	c->name_buckets_off = s->name_buckets_off;
	c->arenas_off = s->arenas_off;
	c->freepools_off = s->freepools_off;
	c->pools_off = s->pools_off;
	c->geometry_hash = geometry_hash(geometry);
	c->pid_namespace = pid_namespace();
	r = fill_random(c->heap_id, sizeof(c->heap_id));
	if (!r)
		r = fill_random(c->name_key, sizeof(c->name_key));
	if (!r)
		r = mutex_init(&c->lock.mutex);
	if (r < 0)
		return r;
	/* commit: release: a process that reads the magic finds all of the above */
	__atomic_store_n(&c->magic, LAYOUT_MAGIC, __ATOMIC_RELEASE);
	return 0;
}

int heap_create(struct heap **ret, int control_fd, int heap_fd, const char *name, const struct heap_geometry *geometry)
{
	struct sections s;
	struct heap *heap;
	int r;

	r = geometry_check(geometry);
	if (r < 0)
		return r;
	geometry_sections(&s, geometry);
	r = resize(control_fd, s.size);
	if (!r)
		r = resize(heap_fd, geometry->heap_size);
	if (!r)
		r = heap_allocate(control_fd, 0, s.arenas_off);
	if (r < 0)
		return r;

	heap = heap_from(geometry, &s, control_fd, heap_fd);
	if (!heap)
		return -ENOMEM;
	r = map_control(heap, &s);
	if (!r)
		r = map_window(heap, false);
	if (!r)
		r = control_fill(heap, name, geometry, &s);
	if (r < 0) {
		heap_discard(heap);
		return r;
	}
	*ret = heap;
	return 0;
}

/* Read the header from the file, where one cut short is a short read and no SIGBUS, and check it against the files. */
static int validate(int control_fd, int heap_fd, struct heap_geometry *ret, struct sections *s)
{
	union {
		struct control control;
		uint8_t bytes[offsetof(struct control, lock)];
	} * u;
	const struct control *c;
	struct stat st;
	ssize_t n;
	int r;

	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	c = &u->control;
	n = pread(control_fd, u->bytes, sizeof(u->bytes), 0);
	r = n < 0 ? -errno : n == 0 ? -ENODATA : n < (ssize_t)sizeof(u->bytes) ? -EUCLEAN : 0;
	if (!r && c->magic != LAYOUT_MAGIC)
		r = c->magic ? -EMEDIUMTYPE : -ENODATA;
	if (!r && (c->version != LAYOUT_VERSION || c->layout_hash != layout_hash()))
		r = -EPROTONOSUPPORT;
	if (r < 0)
		goto out;

	*ret = (struct heap_geometry){c->heap_size, c->arena_size, c->n_sessions};
	r = -EUCLEAN;
	if (geometry_check(ret) < 0 || c->geometry_hash != geometry_hash(ret))
		goto out;
	geometry_sections(s, ret);
	if (!geometry_matches(c, s))
		goto out;
	if (fstat(control_fd, &st) < 0 || (uint64_t)st.st_size != s->size)
		goto out;
	if (fstat(heap_fd, &st) < 0 || (uint64_t)st.st_size != ret->heap_size)
		goto out;
	r = 0;
out:
	free(u);
	return r;
}

static int attach(struct heap **ret, int control_fd, int heap_fd, bool whole)
{
	struct heap_geometry geometry;
	struct sections s;
	struct heap *heap;
	int r;

	r = validate(control_fd, heap_fd, &geometry, &s);
	if (r < 0)
		return r;
	heap = heap_from(&geometry, &s, control_fd, heap_fd);
	if (!heap)
		return -ENOMEM;
	r = map_control(heap, &s);
	if (!r)
		r = map_window(heap, whole);
	if (r < 0) {
		heap_discard(heap);
		return r;
	}
	*ret = heap;
	return 0;
}

int heap_attach(struct heap **ret, int control_fd, int heap_fd)
{
	int r;

	r = attach(ret, control_fd, heap_fd, true);
	if (r < 0)
		return r;
	/* A client needs the mappings only, and what is not open is not written to by mistake. */
	close(control_fd);
	close(heap_fd);
	(*ret)->control_fd = -1;
	(*ret)->heap_fd = -1;
	return 0;
}

int heap_adopt(struct heap **ret, int control_fd, int heap_fd)
{
	struct heap *heap;
	int r;

	r = attach(&heap, control_fd, heap_fd, false);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < heap->control->n_arenas_known; i++) {
		uint64_t off = (uint64_t)i << heap->arena_shift;

		if (heap->arenas[i].state == ARENA_HOLE)
			continue;
		if (mmap(heap->base + off, heap->arena_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, heap_fd,
			    (off_t)off) == MAP_FAILED) {
			r = -errno;
			heap_discard(heap);
			return r;
		}
	}
	*ret = heap;
	return 0;
}

void heap_refresh_arenas(struct heap *heap)
{
	uint32_t n =
		__atomic_load_n(&heap->control->n_arenas_mapped, __ATOMIC_ACQUIRE); /* with the release in supply.c */
	uint32_t seen = __atomic_load_n(&heap->n_pools_known, __ATOMIC_RELAXED);

	n = (n < heap->n_arenas ? n : heap->n_arenas) * heap->pools_per_arena;
	/*
	 * relaxed: other threads of this process read it for pools that their own sessions know already. It only grows,
	 * and is not stored to when it has not grown, so that their processors keep the cache line.
	 */
	while (seen < n &&
		!__atomic_compare_exchange_n(&heap->n_pools_known, &seen, n, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}
