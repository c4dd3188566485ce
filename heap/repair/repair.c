// SPDX-License-Identifier: MIT
/*
 * The heap mended
 *
 * First the heap is compared with itself (check.c). If that finds a fault, whatever follows from the truth is made anew
 * (memory/rebuild.c), rights are mended (check_rights.c), and the heap is compared once more. A fault that is left then
 * is one of the truth itself: it is reported, and stays.
 *
 * All is done under the lock, with all sessions kept out. Should this process die in it, the next taker of the lock
 * finishes the rebuild or rolls back the change that mended, and the next repair finds the rest.
 */

#include "heap/repair/repair.h"
#include "heap/change/lock.h"
#include "heap/memory/rebuild.h"
#include "heap/object/dying.h"
#include "heap/repair/check.h"
#include "heap/shared/critical.h"

#include <errno.h>

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
	check_report_faults(&faults, report, userdata);
	return r < 0 ? r : n;
}
