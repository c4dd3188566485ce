// SPDX-License-Identifier: MIT
/*
 * Peer: the C library's malloc
 *
 * For orientation: private to its process, without counts or types and lost with it. It is what making and dropping
 * costs where nothing is shared, so only works of one process are in it.
 */
#include "works.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <stdlib.h>

static int pair_run(void *state, uint64_t n)
{
	(void)state;
	for (uint64_t i = 0; i < n; i++) {
		void *object = malloc(PAIR_SIZE);

		if (!object)
			return -ENOMEM;
		keep(object);
		free(object);
	}
	return 0;
}

static const struct peer_entry entries[] = {
	{.work = WORK_PAIR_48, .contender = {.how = "malloc, free; private, no counts", .run = pair_run}},
};

const struct peer peer_malloc = {
	.name = "glibc malloc",
	.version = gnu_get_libc_version,
	.entries = entries,
	.n_entries = sizeof(entries) / sizeof(*entries),
};
