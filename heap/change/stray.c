// SPDX-License-Identifier: MIT
/*
 * Stray memory: pages of the heap's files where no arena is
 *
 * A client maps the whole window, so whatever touches all that a process has mapped makes pages of the holes:
 * mlockall() after the session was opened, a core dump of another kind, a stray read. They count for /dev/shm and stay.
 * The daemon compares what the heap's file occupies with the arenas that are there, which costs one fstat(), and only
 * where that is more looks for pages in holes. It gives them back while the client still has them locked, too: the
 * kernel makes them anew only when they are touched again.
 *
 * No client uses a hole, and the daemon alone turns a hole into an arena, so nothing is lost. In the control segment
 * the entries of arenas that were never known are such a hole. A daemon that dies in between has given some of it back.
 */

#include "heap/change/stray.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEP_BYTES (UINT64_C(4) << 20) /* given back in one step */
#define STEP_LOOKS 256U                /* places asked for in one step */
#define PAGE       UINT64_C(4096)

static int punch(int fd, uint64_t from, uint64_t size)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)size) < 0 ? -errno : 0;
}

/* Where the first page from `from` on is; `end` where there is none before. */
static uint64_t next_page(int fd, uint64_t from, uint64_t end)
{
	off_t off = lseek(fd, (off_t)from, SEEK_DATA);

	return off < 0 || (uint64_t)off > end ? end : (uint64_t)off;
}

/* Give back pages in [from, end), a step of them. 1 there was one, 0 there is none. */
static int punch_pages(int fd, uint64_t from, uint64_t end, uint64_t *n_bytes)
{
	int r;

	from = next_page(fd, (from + PAGE - 1) & ~(PAGE - 1), end);
	if (from >= end)
		return 0;
	if (end - from > STEP_BYTES)
		end = from + STEP_BYTES;
	r = punch(fd, from, end - from);
	*n_bytes += end - from;
	return r < 0 ? r : 1;
}

/* The part of a section of the control segment, up to `end`, that begins at an entry. */
static int punch_entries(struct heap *heap, const void *entry, const void *end, uint64_t *n_bytes)
{
	const uint8_t *base = (const uint8_t *)heap->control;

	return punch_pages(heap->control_fd, (uint64_t)((const uint8_t *)entry - base),
		(uint64_t)((const uint8_t *)end - base), n_bytes);
}

/* Entries of arenas that were never known. */
static int control_step(struct heap *heap, uint64_t *n_bytes)
{
	uint64_t known = arenas_known(heap);
	int r;

	r = punch_entries(heap, &heap->arenas[known], heap->freepools, n_bytes);
	if (!r)
		r = punch_entries(heap, &heap->freepools[known * heap->pool_words], heap->pools, n_bytes);
	if (!r)
		r = punch_entries(heap, &heap->pools[known * heap->pools_per_arena],
			(const uint8_t *)heap->control + heap->control_size, n_bytes);
	return r;
}

static bool has_strays(const struct heap *heap)
{
	struct stat st;

	return fstat(heap->heap_fd, &st) == 0 && (uint64_t)st.st_blocks * 512 > (uint64_t)heap->n_arenas_here
											<< heap->arena_shift;
}

/* The holes in a row from arena i on end before this one. */
static uint32_t end_of_holes(const struct heap *heap, uint32_t i)
{
	while (i < heap->n_arenas && truth_arena_state(heap->truth, i) == TRUTH_HOLE)
		i++;
	return i;
}

static int heap_step(struct heap *heap, uint32_t *cursor, uint64_t *n_bytes)
{
	const uint32_t shift = heap->arena_shift;
	int r = 0;

	for (uint32_t n = 0; n < STEP_LOOKS && r == 0 && *cursor < heap->n_arenas; n++) {
		/* From the next arena with memory on: mostly the one that it is at. */
		uint64_t from = next_page(heap->heap_fd, (uint64_t)*cursor << shift, heap->heap_size);
		uint32_t i = (uint32_t)(from >> shift), end = end_of_holes(heap, i);

		if (end > i)
			r = punch_pages(heap->heap_fd, from, (uint64_t)end << shift, n_bytes);
		*cursor = r > 0 ? i : end > i ? end : i + 1;
	}
	return r < 0 ? r : *cursor < heap->n_arenas;
}

int stray_step(struct heap *heap, uint32_t *cursor, uint64_t *n_bytes)
{
	int r;

	if (*cursor == 0) {
		r = control_step(heap, n_bytes);
		if (r)
			return r;
		if (!has_strays(heap))
			return 0;
	}
	return heap_step(heap, cursor, n_bytes);
}
