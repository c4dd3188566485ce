// SPDX-License-Identifier: MIT
/*
 * The heaps that this process has attached
 *
 * All sessions of a process that use the same heap share one mapping of it, so that a pointer means the same to all its
 * threads, and a race detector sees two threads' stores to one object at one address. Mappings are found by the id that
 * the heap was made with; a daemon that was restarted serves the same id, a heap made anew has another.
 *
 * What no session uses any more is unmapped; but a thread that the global lock was left to (lock.c) keeps the mapping
 * until it has given it back or has ended, which is looked at when a session comes or goes.
 *
 * The mutex is of this process alone and guards the list, the counts and process_identify(). It is held over the
 * mapping of a heap, so that two threads that open their first sessions at once make one mapping. fork() takes it too:
 * the child then finds the list whole and the mutex free, and keeps the mappings, each counted once per session it
 * inherited.
 */
#include "client/registry.h"

#include "client/process.h"
#include "heap/change/lock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
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
 * A child may not unlock what its parent's thread locked, as some detectors see it: its mutex is simply new. The global
 * lock is left to none of its threads.
 */
static void registry_renew(void)
{
	for (struct mapping *mapping = mappings; mapping; mapping = mapping->next)
		mapping->heap->abandoned_tid = 0;
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

static int mapping_new(struct mapping **ret, const uint8_t heap_id[HEAP_ID_SIZE], int control_fd, int heap_fd)
{
	struct mapping *mapping;
	int r;

	mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return -ENOMEM;
	r = heap_attach(&mapping->heap, control_fd, heap_fd);
	if (r < 0) {
		free(mapping);
		return r;
	}
	memcpy(mapping->heap_id, heap_id, HEAP_ID_SIZE);
	mapping->next = mappings;
	mappings = mapping;
	*ret = mapping;
	return 0;
}

static int mapping_get(struct mapping **ret, const uint8_t heap_id[HEAP_ID_SIZE], int control_fd, int heap_fd)
{
	struct mapping *mapping;
	int r;

	r = process_identify();
	if (r < 0)
		goto fail;
	mapping = mapping_find(heap_id);
	if (mapping) {
		close(control_fd);
		close(heap_fd);
	} else {
		r = mapping_new(&mapping, heap_id, control_fd, heap_fd);
		if (r < 0)
			goto fail;
	}
	mapping->n_sessions++;
	*ret = mapping;
	return 0;
fail:
	close(control_fd);
	close(heap_fd);
	return r;
}

/* Unmap what no session uses, unless the global lock was left to a thread: its list of mutexes leads into the mapping.
 */
static void mappings_sweep(void)
{
	struct mapping **link = &mappings;

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

int registry_attach(struct mapping **ret, const uint8_t heap_id[HEAP_ID_SIZE], int control_fd, int heap_fd)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int r;

	pthread_once(&once, registry_init);
	registry_lock();
	r = mapping_get(ret, heap_id, control_fd, heap_fd);
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
