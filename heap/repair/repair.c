/* SPDX-License-Identifier: MIT */
/* The heap compared with itself, and mended */

#include "heap/repair/repair.h"
#include "heap/change/lock.h"
#include "heap/memory/rebuild.h"
#include "heap/object/dying.h"
#include "heap/repair/check.h"
#include "heap/shared/critical.h"

#include <errno.h>

/* What the mending itself leaves to be found is a fault that nothing derived explains: it is told, and stays. */
static int64_t mend(struct session *session, struct faults *faults)
{
	int64_t n;

	rebuild_all(session->heap);
	n = check_walk(session->heap, session, NULL);
	if (n >= 0)
		n = check_walk(session->heap, NULL, faults);
	return n > 0 ? -EUCLEAN : n;
}

int64_t heap_repair(struct session *session, check_report report, void *userdata)
{
	struct faults faults = {.n_lines = 0};
	int64_t n, r;

	r = change_begin(session);
	if (r < 0)
		return r;
	n = critical_block_all(session->heap);
	if (!n)
		n = check_walk(session->heap, NULL, &faults);
	if (n > 0) {
		r = mend(session, &faults);
		cache_forget_all(session->cache);
	}
	critical_unblock_all(session->heap);
	change_end(session, 0);
	dying_free(session, 0);
	check_tell(&faults, report, userdata);
	return r < 0 ? r : n;
}
