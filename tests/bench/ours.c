// SPDX-License-Identifier: MIT
/*
 * Contender: pyheap
 *
 * By nothing but its public header. bench.py starts a pyheapd for each of these programs and says by $PYHEAP_SOCKET
 * where it is, and by $PYHEAP_BENCH_HEAP which its name is: only for that, what the heap takes of the machine can be
 * seen from outside, as anybody sees it, by the size of its files in /dev/shm.
 */
#include "ours.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

int ours_open(pyheap **ret, size_t size)
{
	pyheap *heap;
	pyheap_ref ref;
	int r = pyheap_open(&heap, NULL);

	if (r < 0)
		return r;
	if (size)
		r = pyheap_new(heap, PYHEAP_BYTES, size, &ref);
	if (r < 0) {
		pyheap_close(heap);
		return r;
	}
	*ret = heap;
	return 0;
}

int ours_pairs(void *state, uint64_t n)
{
	pyheap *heap = state;
	pyheap_ref ref;
	int r;

	for (uint64_t i = 0; i < n; i++) {
		r = pyheap_new(heap, PYHEAP_BYTES, PAIR_SIZE, &ref);
		if (r < 0)
			return r;
		r = pyheap_decref(heap, ref);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What one of the heap's two files takes. */
static int64_t file_bytes(const char *part)
{
	const char *name = getenv("PYHEAP_BENCH_HEAP");
	char path[128];
	struct stat stat_of;

	snprintf(path, sizeof(path), "/dev/shm/pyheap.%s.%s", name ? name : "", part);
	return stat(path, &stat_of) < 0 ? -errno : (int64_t)stat_of.st_blocks * 512;
}

int64_t ours_arena_bytes(void)
{
	return file_bytes("heap");
}

int64_t ours_shared_bytes(void)
{
	int64_t arenas = file_bytes("heap"), control = file_bytes("ctl");

	return arenas < 0 ? arenas : control < 0 ? control : arenas + control;
}

int ours_wait_arenas(int64_t limit, int timeout_ms, uint64_t *ret_ns)
{
	uint64_t begin = clock_now();

	for (;;) {
		int64_t bytes = ours_arena_bytes();

		*ret_ns = clock_now() - begin;
		if (bytes < 0)
			return (int)bytes;
		if (bytes <= limit)
			return 0;
		if (*ret_ns > (uint64_t)timeout_ms * 1000000U)
			return -ETIMEDOUT;
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
}

int ours_push(pyheap *heap, pyheap_ref queue, pyheap_ref ref)
{
	struct spin spin = {0};
	int r;

	while ((r = pyheap_queue_push(heap, queue, ref, 0)) == -EAGAIN) {
		if (spin_again(&spin) < 0)
			return -ETIMEDOUT;
	}
	return r;
}

int ours_pop(pyheap *heap, pyheap_ref queue, pyheap_ref *ret)
{
	struct spin spin = {0};
	int r;

	while ((r = pyheap_queue_pop(heap, queue, ret, 0)) == -EAGAIN) {
		if (spin_again(&spin) < 0)
			return -ETIMEDOUT;
	}
	return r;
}

int main(int argc, char **argv)
{
	static const struct family *const families[] = {&family_objects, &family_bulk, &family_crowd, &family_queues,
		&family_names, &family_readers, &family_memory, &family_killed};

	return contender_main(argc, argv, pyheap_version(), families, sizeof(families) / sizeof(*families));
}
