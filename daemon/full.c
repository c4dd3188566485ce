// SPDX-License-Identifier: MIT
/*
 * A full heap
 *
 * It concerns all sessions, and not only the one that is told ENOMEM, so it is logged, once in a while. Who has most is
 * counted as it is for pyheapctl clients (usage.c), in steps, and logged when that is known.
 */
#include "daemon/full.h"

#include "daemon/clock.h"
#include "daemon/log.h"
#include "heap/repair/recover.h"

#define AGAIN_MS 60000

static void say_most(const struct full *full)
{
	struct session_record record;
	uint32_t most = 0;

	for (uint32_t i = 1; i < full->heap->n_sessions; i++)
		if (full->usage.sessions[i].n_bytes > full->usage.sessions[most].n_bytes)
			most = i;
	if (!full->usage.sessions[most].n_bytes)
		return; /* all of it is of sessions that have ended, and held by others */
	session_read(full->heap, most, &record);
	log_warning("most of the full heap, %s of %s, is what session %u (pid %d, %s) has made and kept free",
		log_size(full->usage.sessions[most].n_bytes), log_size(full->heap->heap_size), most, (int)record.pid,
		record.program);
}

static int step_of_item(void *owner)
{
	struct full *full = owner;
	int r = usage_step(&full->usage);

	if (r > 0)
		return 1;
	if (r == 0)
		say_most(full);
	usage_cancel(&full->usage);
	return 0;
}

void full_init(struct full *full, struct heap *heap, struct work *work)
{
	*full = (struct full){.heap = heap, .work = work, .item = {.step = step_of_item, .owner = full}};
	usage_init(&full->usage, heap);
}

void full_deinit(struct full *full)
{
	if (!full->work)
		return;
	work_remove(full->work, &full->item);
	usage_cancel(&full->usage);
}

void full_refused(struct full *full, uint32_t index, uint64_t size, bool has_no_room)
{
	struct session_record record;
	int64_t now = now_ms();

	if (full->last_ms && now - full->last_ms < AGAIN_MS)
		return;
	full->last_ms = now;
	session_read(full->heap, index, &record);
	log_warning("session %u (pid %d, %s) is refused %s more: %s", index, (int)record.pid, record.program,
		log_size(size),
		has_no_room ? "the heap is full, or has no room of that length (--size)"
			    : "the machine's shared memory, or the memory cgroup of pyheapd, is full");
	work_add(full->work, &full->item);
}
