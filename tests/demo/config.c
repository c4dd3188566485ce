// SPDX-License-Identifier: MIT
/*
 * A configuration that one process writes and four read, by name
 *
 * usage: demo-config [KEYS [UPDATES]]
 *
 * Each key is a name, and its value an object of its own, which is never changed: an update makes another one and sets
 * the name. Readers look keys up at random until the writer is done. They take no lock, and what they got stays theirs
 * until they drop it, whatever the writer does meanwhile. Each checks that a value is its key's, and that none goes
 * back to an earlier version. Prints how many lookups and updates there were. Exit status 0: all values were right.
 */
#include <pyheap.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_READERS 4

struct value {
	uint64_t key, version;
};

/* Beside the heap: whether the writer is done, and what the readers have counted. */
static struct {
	atomic_bool is_done;
	atomic_ulong n_lookups;
} * common;

static int set(pyheap *heap, uint64_t key, uint64_t version)
{
	struct value value = {key, version};
	pyheap_ref ref;
	char name[32];
	int r = pyheap_put(heap, &value, sizeof(value), &ref);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "config/%lu", (unsigned long)key);
	r = pyheap_name_set(heap, name, ref); /* readers see the old value or the new one */
	pyheap_decref(heap, ref);             /* the name has it now */
	return r;
}

/* Look one key up. Its version must be at least *seen. */
static int check(pyheap *heap, uint64_t key, uint64_t *seen)
{
	const struct value *value;
	pyheap_ref ref;
	char name[32];
	int r;

	snprintf(name, sizeof(name), "config/%lu", (unsigned long)key);
	r = pyheap_name_get(heap, name, &ref);
	if (r < 0)
		return r;
	value = pyheap_data(heap, ref);
	r = value && value->key == key && value->version >= *seen ? 0 : -1;
	if (value)
		*seen = value->version;
	pyheap_decref(heap, ref);
	return r;
}

static int read_until_done(uint64_t n_keys, unsigned int seed)
{
	uint64_t *seen = calloc(n_keys, sizeof(*seen)), n = 0;
	pyheap *heap = NULL;
	int r = seen ? pyheap_open(&heap, NULL) : -1;

	while (r >= 0 && !atomic_load(&common->is_done)) {
		uint64_t key = (uint64_t)rand_r(&seed) % n_keys;

		r = check(heap, key, &seen[key]);
		n++;
	}
	atomic_fetch_add(&common->n_lookups, n);
	pyheap_close(heap);
	free(seen);
	return r < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	uint64_t n_keys = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
	uint64_t n_updates = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
	int status, n_failed = 0, r = 0;
	pyheap *heap;

	common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (common == MAP_FAILED || !n_keys || pyheap_open(&heap, NULL) < 0)
		return fputs("demo-config: no pyheapd, or no keys\n", stderr), 1;
	for (uint64_t key = 0; r >= 0 && key < n_keys; key++)
		r = set(heap, key, 1);
	for (unsigned int i = 0; r >= 0 && i < N_READERS; i++)
		if (fork() == 0)
			_exit(read_until_done(n_keys, i));
	for (uint64_t i = 0; r >= 0 && i < n_updates; i++)
		r = set(heap, i * 7919 % n_keys, 2 + i);
	atomic_store(&common->is_done, true);
	while (wait(&status) > 0)
		n_failed += status != 0;
	printf("%lu keys, %lu updates, %lu lookups by %d readers\n", (unsigned long)n_keys, (unsigned long)n_updates,
		(unsigned long)common->n_lookups, N_READERS);
	pyheap_close(heap);
	return r < 0 || n_failed;
}
