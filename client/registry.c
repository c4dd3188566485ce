// SPDX-License-Identifier: MIT
/*
 * The heaps that this process has mapped
 *
 * All sessions of a process that use one heap share one mapping of it, so that a pointer means the same to all threads,
 * and a race detector sees two threads' stores to one object at one address. A mapping is found by the id of its heap:
 * a daemon that was restarted serves the heap of that id, a heap that was made anew has another id.
 *
 * A mapping is unmapped when no session uses it any more. One exception: a thread took the global lock, and another
 * thread closed its session (heap/change/lock.c). The mapping then stays until that thread has given the lock back or
 * has ended, which is asked whenever a session comes or goes.
 *
 * With $PYHEAP_KEEP_MAPPED no heap is unmapped at all, for programs that cannot know who still has a pointer.
 *
 * What is mapped is left out of core dumps: dumping would make a page of every hole. $PYHEAP_DUMP leaves it in.
 *
 * The mutex is this process's own. It guards the list, its counts and process_identify(). It is held while a heap is
 * mapped, so that two threads that open their first sessions at the same time make one mapping. fork() takes it too:
 * the child then has a whole list and a free mutex, and keeps the mappings, each counted once per inherited session.
 */
#include "client/registry.h"

#include "client/process.h"
#include "heap/change/lock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *mappings;

static void registry_lock(void)
{
	pthread_mutex_lock(&mutex);
}

static void registry_unlock(void)
{
	pthread_mutex_unlock(&mutex);
}

/*
 * In a forked child. Its mutex is made anew: race detectors do not let a child unlock what a thread of the parent
 * locked.
 */
static void registry_renew(void)
{
	pthread_mutex_init(&mutex, NULL);
}

static void registry_init(void)
{
	pthread_atfork(registry_lock, registry_unlock, registry_renew);
}

static struct mapping *mapping_find(const uint8_t heap_id[HEAP_ID_SIZE])
{
	for (struct mapping *mapping = mappings; mapping; mapping = mapping->next)
		if (memcmp(mapping->heap_id, heap_id, HEAP_ID_SIZE) == 0)
			return mapping;
	return NULL;
}

/* A variable of the environment that is set to something else than "" and "0". */
static bool is_wanted(const char *variable)
{
	const char *value = secure_getenv(variable);

	return value && *value && strcmp(value, "0") != 0;
}

static void leave_out_of_dumps(const struct heap *heap)
{
	if (is_wanted("PYHEAP_DUMP"))
		return;
	madvise(heap->base, heap->heap_size, MADV_DONTDUMP);
	madvise(heap->control, heap->control_size, MADV_DONTDUMP);
	madvise(heap->class_hints, heap->heap_size >> POOL_SHIFT, MADV_DONTDUMP);
}

static int mapping_new(struct mapping **ret, const struct admission *admission)
{
	struct mapping *mapping;
	int r;

	mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return -ENOMEM;
	r = heap_attach(&mapping->heap, admission->control_fd, admission->heap_fd);
	if (r < 0) {
		free(mapping);
		return r;
	}
	leave_out_of_dumps(mapping->heap);
	memcpy(mapping->heap_id, admission->heap_id, HEAP_ID_SIZE);
	mapping->next = mappings;
	mappings = mapping;
	*ret = mapping;
	return 0;
}

/* The descriptors are closed unless the mapping is a new one, which keeps them. */
static int mapping_get(struct mapping **ret, const struct admission *admission)
{
	struct mapping *mapping;
	int r;

	r = process_identify();
	if (r < 0)
		goto out;
	mapping = mapping_find(admission->heap_id);
	if (!mapping) {
		r = mapping_new(&mapping, admission);
		if (r < 0)
			goto out;
		admission = NULL;
	}
	mapping->n_sessions++;
	*ret = mapping;
out:
	if (admission) {
		close(admission->control_fd);
		close(admission->heap_fd);
	}
	return r;
}

/*
 * Unmap what no session uses, unless a thread still has the global lock: the list of its robust mutexes leads into the
 * mapping.
 */
static void mappings_sweep(void)
{
	struct mapping **link = &mappings;

	if (is_wanted("PYHEAP_KEEP_MAPPED"))
		return;
	while (*link) {
		struct mapping *mapping = *link;

		if (mapping->n_sessions > 0 || lock_release_abandoned(mapping->heap)) {
			link = &mapping->next;
			continue;
		}
		*link = mapping->next;
		heap_free(mapping->heap);
		free(mapping);
	}
}

int registry_attach(struct mapping **ret, const struct admission *admission)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int r;

	pthread_once(&once, registry_init);
	registry_lock();
	r = mapping_get(ret, admission);
	mappings_sweep();
	registry_unlock();
	return r;
}

struct mapping *registry_detach(struct mapping *mapping)
{
	if (!mapping)
		return NULL;
	registry_lock();
	mapping->n_sessions--;
	mappings_sweep();
	registry_unlock();
	return NULL;
}
