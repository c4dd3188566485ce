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
#include "heap/shared/segment.h"

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
static void heap_unmap(struct heap *heap, bool closes)
{
	if (heap->base)
		munmap(heap->base, heap->heap_size);
	if (heap->class_hints)
		munmap(heap->class_hints, heap->heap_size >> POOL_SHIFT);
	if (heap->control)
		munmap(heap->control, heap->control_size);
	free(heap->trimming);
	free(heap->is_mapped);
	if (heap->truth && !closes)
		heap->truth->fd = -1;
	truth_free(heap->truth);
	free(heap);
}

static void heap_discard(struct heap *heap)
{
	heap_unmap(heap, false);
}

struct heap *heap_free(struct heap *heap)
{
	if (!heap)
		return NULL;
	if (heap->control_fd >= 0)
		close(heap->control_fd);
	if (heap->heap_fd >= 0)
		close(heap->heap_fd);
	heap_unmap(heap, true);
	return NULL;
}

static bool register_for_barriers(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

static int map_control(struct heap *heap, const struct sections *s)
{
	struct control *control = segment_map_control(heap->control_size, heap->control_fd);
	uint8_t *p = (uint8_t *)control;

	if (!control)
		return -errno;
	heap->is_fenced = !register_for_barriers();
	heap->control = control;
	heap->sessions = (struct session_entry *)(void *)(p + s->sessions_off);
	heap->types = (struct type_entry *)(void *)(p + s->types_off);
	heap->type_slots = (uint32_t *)(void *)(p + s->type_slots_off);
	heap->name_buckets = (uint64_t *)(void *)(p + s->name_buckets_off);
	heap->arenas = (struct arena_entry *)(void *)(p + s->arenas_off);
	heap->freepools = (uint64_t *)(void *)(p + s->freepools_off);
	heap->pools = (struct pool_entry *)(void *)(p + s->pools_off);
	return 0;
}

/*
 * The daemon maps arenas one by one into an empty window; a client maps the whole file at once. What the daemon has not
 * mapped reads as 0, a block that was never made, so that nothing that leads there makes it crash.
 */
static int map_window(struct heap *heap, bool whole)
{
	void *p = whole ? segment_map(heap->heap_size, heap->heap_fd)
			: mmap(NULL, heap->heap_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (!p || p == MAP_FAILED)
		return -errno;
	heap->base = p;
	heap->class_hints = segment_map(heap->heap_size >> POOL_SHIFT, -1);
	return heap->class_hints ? 0 : -errno;
}

/*
 * Give the fixed part of the control segment its memory. Two pieces of it stay holes: the log does not end where the
 * lock's page begins, and behind the lock's word each process has memory of its own.
 */
static int control_allocate_fixed(int control_fd, const struct sections *s)
{
	const uint64_t log_end = offsetof(struct control, lock.unused), head = offsetof(struct control, lock.owner1);
	int r = file_allocate(control_fd, 0, log_end);

	if (r == 0)
		r = file_allocate(control_fd, head, offsetof(struct control, lock.own) - head);
	if (r == 0)
		r = file_allocate(control_fd, sizeof(struct control), s->arenas_off - sizeof(struct control));
	return r;
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

/* What the control segment says of itself, as the truth has it. */
static void control_describe(struct heap *heap, const struct heap_geometry *geometry, const struct sections *s)
{
	const struct truth_head *head = heap->truth->head;
	struct control *c = heap->control;

	c->version = LAYOUT_VERSION;
	c->layout_hash = layout_hash();
	c->control_size = s->size;
	c->heap_size = heap->heap_size;
	c->arena_size = heap->arena_size;
	c->n_arenas = s->n_arenas;
	c->pools_per_arena = s->pools_per_arena;
	c->n_sessions = heap->n_sessions;
	c->n_name_buckets = s->n_name_buckets;
	c->sessions_off = s->sessions_off;
	c->types_off = s->types_off;
	c->type_slots_off = s->type_slots_off;
	c->name_buckets_off = s->name_buckets_off;
	c->arenas_off = s->arenas_off;
	c->freepools_off = s->freepools_off;
	c->pools_off = s->pools_off;
	c->geometry_hash = geometry_hash(geometry);
	c->pid_namespace = head->pid_namespace;
	memcpy(c->heap_name, head->heap_name, sizeof(c->heap_name));
	memcpy(c->heap_id, head->heap_id, sizeof(c->heap_id));
	memcpy(c->name_key, head->name_key, sizeof(c->name_key));
	/* relaxed: sessions that live already read the values that were there before, which are the same */
	__atomic_store_n(&c->n_arenas_known, head->n_arenas_known, __ATOMIC_RELAXED);
	__atomic_store_n(&c->n_arenas_mapped, head->n_arenas_mapped, __ATOMIC_RELAXED);
	__atomic_store_n(&c->ended, head->ended, __ATOMIC_RELAXED);
	__atomic_fetch_add(&c->room_number, 1, __ATOMIC_RELAXED); /* it is never 0 */
	/* commit: release: a process that reads the magic finds all of the above */
	__atomic_store_n(&c->magic, LAYOUT_MAGIC, __ATOMIC_RELEASE);
}

static int truth_fill(struct truth *truth, const char *name)
{
	struct truth_head *head = truth->head;
	int r;

	strncpy(head->heap_name, name, sizeof(head->heap_name) - 1);
	head->pid_namespace = pid_namespace();
	r = fill_random(head->heap_id, sizeof(head->heap_id));
	return r < 0 ? r : fill_random(head->name_key, sizeof(head->name_key));
}

/* On success the heap has the truth; it owns the descriptor once the constructor has succeeded. */
static int make_truth(struct heap *heap, int truth_fd, const struct heap_geometry *geometry)
{
	struct truth_files files = {0};
	int r = truth_files_of(&files, heap->control_fd, heap->heap_fd);

	if (r == 0)
		r = truth_make(&heap->truth, truth_fd, &files, geometry);
	return r;
}

static int map_all(struct heap *heap, const struct sections *s, bool whole)
{
	int r = map_control(heap, s);

	if (r == 0)
		r = map_window(heap, whole);
	if (r == 0 && !whole) {
		heap->is_mapped = calloc(heap->n_arenas, sizeof(*heap->is_mapped));
		r = heap->is_mapped ? 0 : -ENOMEM;
	}
	return r;
}

int heap_create_kept(struct heap **ret, int control_fd, int heap_fd, int truth_fd, const char *name,
	const struct heap_geometry *geometry)
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
		r = control_allocate_fixed(control_fd, &s);
	if (r < 0)
		return r;

	heap = heap_from(geometry, &s, control_fd, heap_fd);
	if (!heap)
		return -ENOMEM;
	r = map_all(heap, &s, false);
	if (!r)
		r = make_truth(heap, truth_fd, geometry);
	if (!r)
		r = truth_fill(heap->truth, name);
	if (r < 0) {
		heap_discard(heap);
		return r;
	}
	/* A daemon that finds the one without the other finds a heap that no client has seen yet. */
	control_describe(heap, geometry, &s);
	truth_commit(heap->truth);
	*ret = heap;
	return 0;
}

/* Read the header from the file, where one cut short is a short read and no SIGBUS, and check it against the files. */
static int validate(int control_fd, int heap_fd, struct heap_geometry *ret, struct sections *s)
{
	union {
		struct control control;
		uint8_t bytes[offsetof(struct control, counters)];
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
	r = map_all(heap, &s, whole);
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

/* ---- the daemon's window ------------------------------------------------------------------------------------------
 */

/*
 * The daemon maps arenas that have memory, and leaves the rest of its window empty: a stray read of a hole would
 * allocate a page of it. The kernel keeps neighbours together as one mapping. With gaps everywhere each arena is a
 * mapping of its own, and a process may have 65530 (vm.max_map_count).
 *
 * Where the kernel refuses one more, the whole window becomes one mapping, and stays so: it is what a client has
 * anyway. If even that is refused, an arena that is returned stays mapped, and is a hole of the file all the same. It
 * is unmapped, or covered by the next mapping of it, later.
 */

static int map_part(const struct heap *heap, uint64_t off, uint64_t size)
{
	return mmap(heap->base + off, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
		       heap->heap_fd, (off_t)off) == MAP_FAILED
		       ? -errno
		       : 0;
}

/*
 * One mapping instead of many. The kernel refuses any mmap() once a process has more than it may have, which one that
 * split two others can cause. It does not refuse munmap(): the daemon has one thread, so the window stays free.
 */
static int map_whole(struct heap *heap)
{
	int r = munmap(heap->base, heap->heap_size) < 0 ? -errno : map_part(heap, 0, heap->heap_size);

	heap->is_mapped_whole = r == 0;
	return r;
}

/* release: the process that sees an arena as mapped finds it there */
static void mark_mapped(struct heap *heap, uint32_t first, uint32_t n, uint8_t is_mapped)
{
	for (uint32_t i = first; i < first + n; i++) {
		heap->n_arenas_here += is_mapped - (uint32_t)heap->is_mapped[i];
		__atomic_store_n(&heap->is_mapped[i], is_mapped, __ATOMIC_RELEASE);
	}
}

int heap_map_arenas(struct heap *heap, uint32_t first, uint32_t n)
{
	int r = 0;

	if (!heap->is_mapped_whole)
		r = map_part(heap, (uint64_t)first << heap->arena_shift, (uint64_t)n << heap->arena_shift);
	if (r == -ENOMEM)
		r = map_whole(heap);
	if (r == 0)
		mark_mapped(heap, first, n, 1);
	return r;
}

/*
 * The window stays reserved: an empty mapping takes the place of the arenas. Nothing comes in between, as the daemon
 * has one thread. Where the kernel refuses the empty mapping, nothing is there until the whole window is mapped.
 */
static int unmap_part(const struct heap *heap, uint64_t off, uint64_t size)
{
	if (munmap(heap->base + off, size) < 0)
		return -errno;
	return mmap(heap->base + off, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		       0) == MAP_FAILED
		       ? -errno
		       : 0;
}

int heap_return_arenas(struct heap *heap, uint32_t first, uint32_t n)
{
	uint64_t off = (uint64_t)first << heap->arena_shift, size = (uint64_t)n << heap->arena_shift;

	mark_mapped(heap, first, n, 0);
	if (!heap->is_mapped_whole && unmap_part(heap, off, size) == -ENOMEM)
		map_whole(heap); /* or it stays mapped, which does no harm */
	return fallocate(heap->heap_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)size) < 0
		       ? -errno
		       : 0;
}

/* How many arenas the run at `head`, which is MAPPING, has in a heap without a truth: what it counts and is BODY. */
static uint32_t older_run_length(const struct heap *heap, uint32_t head, uint32_t known)
{
	uint32_t n = read_once(heap->arenas[head].n_arenas), k;

	if (n > known - head)
		n = known - head;
	for (k = 1; k < n; k++) {
		uint32_t body = arena_state(&heap->arenas[head + k]);

		if (body != ARENA_BODY && body != ARENA_HOLE)
			break;
	}
	return k;
}

static int older_arenas(struct heap *heap)
{
	struct truth_head *head = heap->truth->head;
	uint32_t known = read_once(heap->control->n_arenas_known), mapped = read_once(heap->control->n_arenas_mapped);
	int r;

	known = known < heap->n_arenas ? known : heap->n_arenas;
	r = truth_extend(heap->truth, known);
	if (r < 0)
		return r;
	head->n_arenas_mapped = mapped < heap->n_arenas ? mapped : heap->n_arenas;
	for (uint32_t i = 0; i < known;) {
		struct truth_arena *arena = &heap->truth->arenas[i];
		uint32_t state = arena_state(&heap->arenas[i]);

		arena->n_arenas = state == ARENA_MAPPING ? older_run_length(heap, i, known) : 1;
		arena->session1 = read_once(heap->arenas[i].session1);
		arena->state = state == ARENA_HOLE ? TRUTH_HOLE : state == ARENA_MAPPING ? TRUTH_MAPPING : TRUTH_THERE;
		i += arena->n_arenas;
	}
	truth_settle(heap->truth);
	return 0;
}

/* A text of shared memory, byte by byte. */
static void text_read(char *to, const char *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = read_once(from[i]);
}

static void older_session(const struct session_entry *from, struct truth_session *to)
{
	to->state = session_state(from);
	to->pid = read_once(from->pid);
	if (to->state > SESSION_DEAD) /* a stray write: what may live is kept */
		to->state = to->pid > 0 ? SESSION_ACTIVE : SESSION_DEAD;
	to->start_time = read_once(from->start_time);
	to->pid_namespace = read_once(from->pid_namespace);
	to->uid = read_once(from->uid);
	to->gid = read_once(from->gid);
	to->token[0] = read_once(from->token[0]);
	to->token[1] = read_once(from->token[1]);
	text_read(to->program, from->program, sizeof(to->program));
	to->program[sizeof(to->program) - 1] = '\0';
}

static int older_truth(struct heap *heap)
{
	const struct control *c = heap->control;
	struct truth_head *head = heap->truth->head;

	text_read(head->heap_name, c->heap_name, sizeof(head->heap_name));
	head->heap_name[sizeof(head->heap_name) - 1] = '\0';
	text_read((char *)head->heap_id, (const char *)c->heap_id, sizeof(head->heap_id));
	text_read((char *)head->name_key, (const char *)c->name_key, sizeof(head->name_key));
	head->pid_namespace = read_once(c->pid_namespace);
	head->ended = read_once(c->ended) ? HEAP_ENDED : 0;
	for (uint32_t i = 0; i < heap->n_sessions; i++)
		older_session(&heap->sessions[i], &heap->truth->sessions[i]);
	return older_arenas(heap);
}

/* The states that the daemon alone decides on, as the truth has them. */
static void write_arenas(struct heap *heap)
{
	const struct truth *truth = heap->truth;

	for (uint32_t i = 0; i < truth->head->n_arenas_known; i++) {
		struct arena_entry *arena = &heap->arenas[i];
		uint32_t state = truth->arenas[i].state;

		if (state == TRUTH_HOLE && arena_state(arena) != ARENA_HOLE)
			__atomic_store_n(&arena->state, (uint32_t)ARENA_HOLE, __ATOMIC_RELEASE);
		if (state == TRUTH_BODY && arena_state(arena) != ARENA_BODY)
			__atomic_store_n(&arena->state, (uint32_t)ARENA_BODY, __ATOMIC_RELEASE);
		if (state == TRUTH_HOLE || state == TRUTH_BODY)
			continue;
		if (state != TRUTH_THERE) /* else it is what sessions have made of it */
			__atomic_store_n(&arena->n_arenas, truth->arenas[i].n_arenas, __ATOMIC_RELAXED);
		__atomic_store_n(&arena->session1, truth->arenas[i].session1, __ATOMIC_RELAXED);
	}
}

static void write_sessions(struct heap *heap)
{
	for (uint32_t i = 0; i < heap->n_sessions; i++) {
		const struct truth_session *from = &heap->truth->sessions[i];
		struct session_entry *to = &heap->sessions[i];

		to->pid = from->pid;
		to->start_time = from->start_time;
		to->pid_namespace = from->pid_namespace;
		to->uid = from->uid;
		to->gid = from->gid;
		memset(to->token, 0, sizeof(to->token));
		memcpy(to->program, from->program, sizeof(to->program));
		if (session_state(to) != from->state)
			__atomic_store_n(&to->state, from->state, __ATOMIC_RELEASE);
	}
}

/* Map each arena that has memory; runs that follow each other by one call. */
static int map_arenas(struct heap *heap)
{
	uint32_t known = heap->truth->head->n_arenas_known;

	for (uint32_t i = 0; i < known;) {
		uint32_t n = 0;
		int r;

		while (i + n < known && heap->truth->arenas[i + n].state != TRUTH_HOLE)
			n++;
		r = n ? heap_map_arenas(heap, i, n) : 0;
		if (r < 0)
			return r;
		i += n ? n : 1;
	}
	return 0;
}

int heap_adopt_older(struct heap **ret, int control_fd, int heap_fd, int truth_fd)
{
	struct heap_geometry geometry;
	struct heap *heap;
	int r;

	r = attach(&heap, control_fd, heap_fd, false);
	if (r < 0)
		return r;
	geometry = (struct heap_geometry){heap->heap_size, heap->arena_size, heap->n_sessions};
	r = make_truth(heap, truth_fd, &geometry);
	if (r == 0)
		r = older_truth(heap);
	if (r == 0)
		r = map_arenas(heap);
	if (r < 0) {
		heap_discard(heap);
		return r;
	}
	truth_commit(heap->truth);
	write_sessions(heap); /* the tokens are the daemon's alone from here on */
	*ret = heap;
	return 0;
}

static bool has_size(int fd, uint64_t size)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_size == size;
}

/* 1 the file had another size and has this one now; 0 it had it. */
static int restore_size(int fd, uint64_t size)
{
	if (has_size(fd, size))
		return 0;
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 1;
}

/* What was cut off has no memory, which is allocated here: a store to it must not fail later. */
static int restore_memory(const struct truth *truth, const struct sections *s, int control_fd, int heap_fd)
{
	const struct truth_head *head = truth->head;
	uint64_t n_pools = (uint64_t)head->n_arenas_mapped * s->pools_per_arena;
	int r = file_allocate(control_fd, 0, s->arenas_off);

	if (r == 0 && head->n_arenas_known)
		r = file_allocate(control_fd, s->arenas_off, head->n_arenas_known * sizeof(struct arena_entry));
	if (r == 0 && head->n_arenas_known)
		r = file_allocate(control_fd, s->freepools_off, (uint64_t)head->n_arenas_known * s->pool_words * 8);
	if (r == 0 && n_pools)
		r = file_allocate(control_fd, s->pools_off, n_pools * sizeof(struct pool_entry));
	for (uint32_t i = 0; i < head->n_arenas_known && r == 0; i++)
		if (truth->arenas[i].state != TRUTH_HOLE)
			r = file_allocate(heap_fd, (uint64_t)i * head->arena_size, head->arena_size);
	return r;
}

/* Clients can change the sizes, also while no daemon runs. True in *ret: one had, and what was cut off is lost. */
static int restore_files(const struct truth *truth, const struct sections *s, int control_fd, int heap_fd, bool *ret)
{
	int control = restore_size(control_fd, s->size), heap = restore_size(heap_fd, truth->head->heap_size);

	*ret = control > 0 || heap > 0;
	if (control < 0 || heap < 0)
		return control < 0 ? control : heap;
	return *ret ? restore_memory(truth, s, control_fd, heap_fd) : 0;
}

static int adopt_by(struct heap **ret, struct truth *truth, int control_fd, int heap_fd)
{
	const struct truth_head *head = truth->head;
	const struct heap_geometry geometry = {head->heap_size, head->arena_size, head->n_sessions};
	struct sections s;
	struct heap *heap;
	bool was_cut;
	int r;

	geometry_sections(&s, &geometry);
	r = restore_files(truth, &s, control_fd, heap_fd, &was_cut);
	if (r < 0)
		return r;
	heap = heap_from(&geometry, &s, control_fd, heap_fd);
	if (!heap)
		return -ENOMEM;
	r = map_all(heap, &s, false);
	heap->truth = truth;
	if (r == 0)
		r = map_arenas(heap);
	if (r < 0) {
		heap->truth = NULL;
		heap_discard(heap);
		return r;
	}
	control_describe(heap, &geometry, &s);
	write_arenas(heap);
	write_sessions(heap);
	heap->was_cut = was_cut;
	*ret = heap;
	return 0;
}

int heap_adopt_kept(struct heap **ret, int control_fd, int heap_fd, int truth_fd)
{
	struct truth_files files;
	struct truth *truth = NULL;
	int r = truth_files_of(&files, control_fd, heap_fd);

	if (r == 0)
		r = truth_open(&truth, truth_fd, &files);
	if (r == 0)
		r = adopt_by(ret, truth, control_fd, heap_fd);
	if (r < 0 && truth) {
		truth->fd = -1; /* its caller's */
		truth_free(truth);
	}
	return r;
}

void heap_refresh_arenas(struct heap *heap)
{
	/* acquire: with the release in supply.c */
	uint32_t n = __atomic_load_n(
		heap->truth ? &heap->truth->head->n_arenas_mapped : &heap->control->n_arenas_mapped, __ATOMIC_ACQUIRE);
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
