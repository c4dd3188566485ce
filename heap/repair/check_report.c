// SPDX-License-Identifier: MIT
/*
 * A check: its faults, and its walk over all objects
 *
 * Faults are noted while the lock is held, and reported after it is released, because reporting may block. This file is
 * below all that compare.
 */

#include "heap/repair/check_report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void check_fault(struct check *check, const char *format, ...)
{
	struct faults *faults = check->faults;
	char *line = NULL;
	va_list args;

	check->n_faults++;
	if (!faults)
		return;
	va_start(args, format);
	if (faults->n_lines == FAULTS_MAX || vasprintf(&line, format, args) < 0)
		faults->n_unreported++;
	else
		faults->lines[faults->n_lines++] = line;
	va_end(args);
}

void check_report_faults(struct faults *faults, check_report report, void *userdata)
{
	char line[64];

	for (uint32_t i = 0; i < faults->n_lines; i++) {
		if (report)
			report(userdata, faults->lines[i]);
		free(faults->lines[i]);
	}
	if (!report || !faults->n_unreported)
		return;
	snprintf(line, sizeof(line), "and %llu more", (unsigned long long)faults->n_unreported);
	report(userdata, line);
}

static void visit_position(struct check *check, uint64_t position, check_visit visit)
{
	struct object object;
	uint32_t state;

	if (object_locate(check->heap, position, &object) < 0)
		return;
	state = header_state(object.word);
	if (state == STATE_LIVE || state == STATE_DYING || state == STATE_MAKING)
		visit(check, &object);
}

/* A visit that mends may free the block, and with its last block the pool. */
static void visit_pool(struct check *check, uint32_t p, check_visit visit)
{
	const struct pool_entry *pool = &check->heap->pools[p];
	uint32_t size_class = pool->size_class;

	if (pool->kind == POOL_RUN)
		visit_position(check, (uint64_t)p << (POOL_SHIFT - 3), visit);
	if (size_class >= N_CLASSES)
		return;
	for (uint32_t i = 0; i < class_shapes[size_class].n_blocks; i++)
		if (pool->kind == POOL_BLOCKS && pool->size_class == size_class)
			visit_position(check, block_position(check->heap, pool, i), visit);
}

void check_each_object(struct check *check, check_visit visit)
{
	struct heap *heap = check->heap;

	for (uint32_t a = 0; a < check_n_arenas(heap); a++) {
		uint32_t p = a * heap->pools_per_arena;

		if (arena_state(&heap->arenas[a]) == ARENA_RUN)
			visit_pool(check, p, visit);
		if (arena_state(&heap->arenas[a]) != ARENA_POOLS)
			continue;
		for (uint32_t i = 0; i < heap->pools_per_arena; i++)
			visit_pool(check, p + i, visit);
	}
}
