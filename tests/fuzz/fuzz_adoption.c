// SPDX-License-Identifier: MIT
/*
 * Fuzzer: a daemon adopts a heap in which anything may stand
 *
 * A heap is filled once: sessions that live, died, or are half reclaimed, with objects, names, queues, hold tables and
 * lists of the dying. Each input then writes into a copy of it what no client should (scribble_fields.c, with the input
 * in place of random numbers, or bytes anywhere), and a daemon adopts the copy. It goes by its own file, as it was, or
 * has none; the input may also write into that file, which then may be refused. The daemon works until it would sleep,
 * a session comes, uses the heap, checks and repairs it, and leaves. Whatever the input is, each of these comes to an
 * end, and no sanitizer has anything to say.
 */
#include "tests/fuzz/inside.h"
#include "tests/fuzz/scribble_fields.h"

#include "daemon/adopt.h"
#include "heap/change/lock.h"
#include "heap/object/count.h"
#include "heap/object/hold.h"
#include "heap/object/making.h"
#include "heap/object/name.h"
#include "heap/object/queue.h"
#include "heap/object/slot.h"
#include "heap/repair/recover.h"
#include "heap/repair/repair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_OBJECTS  120U
#define WRITES_MAX 64U

/* How an input begins. */
enum way {
	WAY_NO_TRUTH = 1,        /* the daemon has no file of its own: it is one of before there were any */
	WAY_ARBITRARY_TRUTH = 2, /* the input writes into that, too */
	WAY_REPAIR_FIRST = 4,    /* a client repairs the heap before the daemon does anything */
	WAY_REPAIR = 8,          /* or afterwards */
};

enum { CONTROL, HEAP, TRUTH, N_FILES };

static int fds[N_FILES];
static uint8_t *originals[N_FILES];
static uint64_t sizes[N_FILES], n_filled[N_FILES]; /* of the file, and what of it is not 0 */
static struct heap *window;                        /* a client's, by which the input is written */

/* ---- the heap that is adopted ------------------------------------------------------------------------------------ */

static void come(struct heap *heap, struct session *session, int32_t pid)
{
	const struct session_identity identity = {
		.pid = pid, .start_time = 1, .token = {(uint64_t)pid << 8, 1}, .program = "fuzz"};
	uint32_t index;

	if (session_admit(heap, &identity, &index) < 0)
		INSIDE_FAULT("no session is free");
	session_init(session, heap, index);
	session_take(session, identity.token);
}

static uint64_t object(struct session *session, uint32_t type, size_t size)
{
	uint64_t ref = 0;

	if (INSIDE_CALL(session, object_new(session, type, size, &ref)) != 0)
		INSIDE_FAULT("no object of %zu bytes", size);
	return ref;
}

static void fill(struct session *session, struct session *other, uint32_t first)
{
	uint64_t list = object(session, TYPE_LIST, 100 * sizeof(uint64_t)), queue = 0, ref;
	char name[32];

	if (INSIDE_CALL(session, queue_new(session, 16, &queue)) != 0)
		INSIDE_FAULT("no queue");
	for (uint32_t i = 0; i < N_OBJECTS; i++) {
		ref = object(session, TYPE_BYTES, 1 + (i % 50 ? i % 8 * 70 : 9000));
		snprintf(name, sizeof(name), "name %u", first + i);
		if (i % 5 == 0)
			(void)INSIDE_CALL(session, name_set(session, name, ref));
		if (i % 3 == 0)
			(void)INSIDE_CALL(session, list_set(session, list, i % 100, ref));
		if (other && i % 2 == 0)
			(void)INSIDE_CALL(other, object_incref(other, ref));
		if (i % 7 == 0)
			(void)INSIDE_CALL(session, queue_push(session, queue, ref, 0));
		else if (i % 4 == 0)
			(void)INSIDE_CALL(session, object_decref(session, ref));
	}
	(void)object(session, TYPE_BYTES, 2 * INSIDE_ARENA_SIZE); /* a run of arenas */
}

/* Keep what is in the file, up to the last byte that is not 0. */
static void keep(int file)
{
	struct stat st;

	if (fstat(fds[file], &st) < 0)
		INSIDE_FAULT("no file");
	sizes[file] = (uint64_t)st.st_size;
	originals[file] = malloc(sizes[file]);
	if (!originals[file] || pread(fds[file], originals[file], sizes[file], 0) != (ssize_t)sizes[file])
		INSIDE_FAULT("cannot read a file");
	for (uint64_t i = 0; i < sizes[file]; i++)
		if (originals[file][i])
			n_filled[file] = i + 1;
}

static void set_up(void)
{
	struct heap_geometry geometry = inside_geometry();
	struct session sessions[4];
	struct heap *heap;
	int kept[N_FILES];

	for (int i = 0; i < N_FILES; i++) {
		fds[i] = memfd_create("fuzz", MFD_CLOEXEC);
		kept[i] = dup(fds[i]);
	}
	if (heap_create_kept(&heap, kept[CONTROL], kept[HEAP], kept[TRUTH], "fuzz", &geometry) < 0)
		INSIDE_FAULT("no heap");
	come(heap, &sessions[0], (int32_t)getpid());
	come(heap, &sessions[1], 1 << 22); /* more than the kernel ever has */
	come(heap, &sessions[2], 0);       /* it may live: nobody can know */
	come(heap, &sessions[3], 1 << 22);
	fill(&sessions[0], &sessions[1], 0);
	fill(&sessions[1], &sessions[2], 1000);
	fill(&sessions[3], &sessions[0], 2000);
	session_mark_dead(heap, sessions[3].index);
	for (uint32_t i = 0; i < 3; i++)
		(void)session_reclaim_step(&sessions[3]);
	for (int i = 0; i < N_FILES; i++)
		keep(i);
	heap_free(heap);
	if (heap_attach(&window, dup(fds[CONTROL]), dup(fds[HEAP])) < 0)
		INSIDE_FAULT("cannot attach");
}

static void restore(int file)
{
	if (ftruncate(fds[file], 0) < 0 || ftruncate(fds[file], (off_t)sizes[file]) < 0 ||
		pwrite(fds[file], originals[file], n_filled[file], 0) != (ssize_t)n_filled[file])
		INSIDE_FAULT("cannot write a file: %s", strerror(errno));
}

/* ---- what the input writes --------------------------------------------------------------------------------------- */

/* Bytes anywhere in a file. */
static void write_bytes(struct fuzz_input *input, int file)
{
	uint64_t off = fuzz_take(input, 4) % sizes[file];
	uint8_t bytes[16];
	size_t n = 1 + fuzz_take(input, 1) % sizeof(bytes);

	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)fuzz_take(input, 1);
	if (n > sizes[file] - off)
		n = sizes[file] - off;
	if (pwrite(fds[file], bytes, n, (off_t)off) != (ssize_t)n)
		INSIDE_FAULT("cannot write a file");
}

static void write_all(struct fuzz_input *input, uint64_t ways)
{
	struct scribble s = {.heap = window, .input = input, .parts = PART_ALL};

	for (uint32_t n = 0; n < WRITES_MAX && input->size > 0; n++)
		switch (fuzz_take(input, 1) % 8) {
		case 0:
			write_bytes(input, CONTROL);
			break;
		case 1:
			write_bytes(input, HEAP);
			break;
		case 2:
			if (ways & WAY_ARBITRARY_TRUTH)
				write_bytes(input, TRUTH);
			break;
		case 3:
			scribble_forge(&s);
			break;
		case 4:
			scribble_bit(&s);
			break;
		default:
			scribble_field(&s);
		}
}

/* ---- the daemon, and a session ------------------------------------------------------------------------------------
 */

static int adopt(struct heap **ret, uint64_t ways)
{
	int control_fd = dup(fds[CONTROL]), heap_fd = dup(fds[HEAP]), truth_fd = dup(fds[TRUTH]);
	int r = ways & WAY_NO_TRUTH ? -ENODATA : heap_adopt_kept(ret, control_fd, heap_fd, truth_fd);

	if (r == -ENODATA)
		r = heap_adopt_older(ret, control_fd, heap_fd, truth_fd);
	if (r == 0)
		return 0;
	close(control_fd);
	close(heap_fd);
	close(truth_fd);
	return r;
}

static void rest(struct inside *inside)
{
	for (int i = 0; i < 3; i++) {
		inside_tick(inside);
		inside_rest(inside);
	}
}

/* The lock is free, so that nobody waits for it. */
static bool can_begin(struct session *session)
{
	int r = change_try_begin(session);

	if (r == 0)
		r = change_end(session, 0);
	return r == 0;
}

/* What it gets may be any error. */
static void use(struct session *session)
{
	uint64_t refs[8] = {0}, list = 0, queue = 0, other, cursor = 0;
	char name[NAME_MAX_LENGTH + 1];

	for (uint32_t i = 0; i < 8; i++) {
		(void)INSIDE_CALL(session, object_new(session, TYPE_BYTES, 1 + i * 300, &refs[i]));
		(void)INSIDE_CALL(session, name_set(session, i % 2 ? "mine" : "name 5", refs[i]));
		(void)INSIDE_CALL(session, object_incref(session, refs[i]));
	}
	(void)INSIDE_CALL(session, object_new(session, TYPE_LIST, 80, &list));
	(void)INSIDE_CALL(session, queue_new(session, 4, &queue));
	for (uint32_t i = 0; i < 8; i++) {
		(void)INSIDE_CALL(session, list_set(session, list, i, refs[i]));
		(void)INSIDE_CALL(session, queue_push(session, queue, refs[i], 0));
		(void)object_refcount(session, refs[i]);
	}
	if (INSIDE_CALL(session, queue_pop(session, queue, &other, 0)) == 0)
		(void)INSIDE_CALL(session, object_decref(session, other));
	for (uint32_t i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "name %u", i * 75);
		if (INSIDE_CALL(session, name_get(session, name, &other)) == 0)
			(void)INSIDE_CALL(session, object_decref(session, other));
	}
	for (uint32_t i = 0; i < 20 && name_next(session, &cursor, name, &other) > 0; i++)
		;
	for (uint32_t i = 0; i < 8; i++)
		(void)INSIDE_CALL(session, object_decref(session, refs[i]));
	(void)INSIDE_CALL(session, object_decref(session, list));
}

static void be_a_client(struct inside *inside, bool repairs)
{
	const struct session_identity identity = {.pid = 0, .token = {77, 7}, .program = "client"};
	struct session session;
	uint32_t index;

	if (session_admit(inside->heap, &identity, &index) < 0)
		return; /* all are taken */
	session_init(&session, inside->heap, index);
	session_take(&session, identity.token);
	if (can_begin(&session)) {
		use(&session);
		if (repairs)
			(void)heap_repair(&session, NULL, NULL);
		use(&session);
	}
	session_mark_dead(inside->heap, index);
	if (!dsessions_at(&inside->sessions, index))
		dsession_start_dead(&inside->sessions, index);
}

static void serve(struct heap *heap, uint64_t ways)
{
	struct inside inside;

	inside_open(&inside, heap);
	if (adopt_heap(&inside.sessions, "fuzz") == 0) {
		if (ways & WAY_REPAIR_FIRST)
			be_a_client(&inside, true);
		rest(&inside);
		be_a_client(&inside, ways & WAY_REPAIR);
		rest(&inside);
	} else if (!(ways & (WAY_NO_TRUTH | WAY_ARBITRARY_TRUTH))) {
		INSIDE_FAULT("the heap is refused");
	}
	inside_close(&inside);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct heap *heap;
	uint64_t ways;
	int r;

	if (!window)
		set_up();
	for (int i = 0; i < N_FILES; i++)
		restore(i);
	ways = fuzz_take(&input, 1);
	write_all(&input, ways);
	r = adopt(&heap, ways);
	if (r < 0 && !(ways & (WAY_NO_TRUTH | WAY_ARBITRARY_TRUTH)))
		INSIDE_FAULT("the heap is refused: %s", strerror(-r));
	if (r < 0)
		return 0;
	serve(heap, ways);
	heap_free(heap);
	return 0;
}

bool fuzz_write_seeds(const char *folder)
{
	uint8_t data[200];
	char name[16];

	/* Each way, with writes of each kind. */
	for (uint32_t way = 0; way < 16; way++) {
		data[0] = (uint8_t)way;
		for (uint32_t i = 1; i < sizeof(data); i++)
			data[i] = (uint8_t)(i * 7 * (way + 1) + i / 16);
		snprintf(name, sizeof(name), "way-%u", way);
		if (!fuzz_write_seed(folder, name, data, way ? sizeof(data) : 1))
			return false;
	}
	return true;
}
